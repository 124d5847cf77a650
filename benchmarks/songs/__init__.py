"""Songs measured as they sound: tempo, key, loudness and balance, by meters that the composer doesn't use."""
