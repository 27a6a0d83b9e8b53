"""What is kept as JSON with each model and each training set: the keys of every document, for who writes and reads it.

A document is a plain dict with declared keys: it goes to JSON as it is. What versions of this code from before a key
wrote lacks it; such a key is `NotRequired`. `TypedDict` comes from typing_extensions: below
Python 3.12 pydantic's models and type adapters take no other.
"""
