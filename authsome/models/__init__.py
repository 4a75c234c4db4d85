"""The nouns: frozen values that every floor of the house shares."""
