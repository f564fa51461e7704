from deploy.cli.command import main

main()
