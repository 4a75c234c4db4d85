"""The roof: words in, words out. The only part that knows both towers."""
