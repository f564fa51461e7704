"""The manifests of deploy/k8s, built as kustomize builds them, and what must hold between them.

Each check takes all documents and returns the faults that it finds, as sentences. No check asks a cluster.
"""
