"""Attacks: each tries to have a model draw what it must not, and yields what it drew. One file, one function each."""
