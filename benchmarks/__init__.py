"""Where the project's figures come from: a loopback server, a plain client (the floor) and synthkd, in turn."""
