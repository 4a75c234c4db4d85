"""The dashboard's endpoints: what a browser may ask for before it is signed in, and after."""
