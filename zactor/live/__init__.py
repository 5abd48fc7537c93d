"""The live world: sockets, files, this machine's clocks, one process's main, and the client. Only here is zmq."""
