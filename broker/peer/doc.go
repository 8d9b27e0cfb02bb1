// Package peer says who is at the other end of a local connection, and listens so that the answer can be trusted.
//
// It owns four things:
//
//   - the listeners: a unix socket that only its owner and group can open ([ListenUnix]) and a TCP port that only this
//     machine can reach ([ListenLoopback]);
//   - the kernel's evidence about each accepted connection: SO_PEERCRED on unix sockets, the owner of the client's socket
//     by NETLINK_SOCK_DIAG on TCP ([Peer], [ConnContext], [FromContext]);
//   - the comparison of presented keys with key files ([Keys]);
//   - the refusal of requests that browsers, proxies and DNS-rebinding pages send ([Guard]).
//
// It refuses to believe anything a request says about its sender, to guess when the kernel does not answer, and to decide
// what a peer may have: it knows nothing of agents, policy or tokens, and reads no environment variable. Whatever cannot be
// proved makes the peer unknown, together with the reason; it never makes it uid 0.
//
// # What the evidence means
//
// On a unix socket the uid, gid and pid are those of the process at the moment it called connect. On TCP the uid is that of
// the process that created the client's socket. In both cases a process may hand the open connection to another one, which
// then speaks with the first one's identity: the kernel vouches for a connection, not for a program.
//
// TCP evidence holds only while the client's socket is ESTABLISHED, because the kernel reports uid 0 for sockets whose
// process has closed them. A client that closes, or half-closes, before its first request is looked at is therefore unknown.
// A client that binds its TCP socket to a network device (SO_BINDTODEVICE) is unknown too.
//
// Identification needs Linux. Elsewhere the package compiles, [ListenLoopback], [Keys] and [Guard] work, and every peer is
// unknown with an error that says so.
package peer
