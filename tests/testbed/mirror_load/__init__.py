"""Programs that work in a mirror's directory and keep an account of what was acknowledged to them, outside of it.

Who judges a mirror reads the account (`account.py`), never the mirror's own word.
"""
