"""`run`: the injecting proxy that stands between a child and the network.

Rule: nothing here can import the code that decrypts. What goes on a request is asked of the daemon, one request at a
time, with the run's own secret.
"""
