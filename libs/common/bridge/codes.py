"""The form of a magic link's code. Pure."""

import string

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
CODE_LENGTH = 8
