//! Pools against scripted origins on loopback sockets.
