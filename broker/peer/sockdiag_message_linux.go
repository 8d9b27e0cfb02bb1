package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Sizes and offsets of struct nlmsghdr, struct inet_diag_req_v2 and struct inet_diag_msg (linux/netlink.h, linux/inet_diag.h).
// Both diag structures hold a struct inet_diag_sockid: ports and addresses in network order, everything else in host order.
const (
	headerSize = 16
	reqSize    = 8 + sockIDSize
	rowSize    = 4 + sockIDSize + 20
	sockIDSize = 48

	idSport, idDport, idSrc, idDst, idCookie = 0, 2, 4, 20, 40

	rowUID, rowInode = rowSize - 8, rowSize - 4

	// sequence is the same in every question because every question has a socket of its own.
	sequence = 1
)

// request encodes the exact question for the socket with these addresses, as one netlink message.
func request(t tuple) []byte {
	host := binary.NativeEndian
	b := make([]byte, headerSize+reqSize)
	host.PutUint32(b[0:], uint32(len(b)))
	host.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	host.PutUint16(b[6:], unix.NLM_F_REQUEST) // without NLM_F_DUMP: one socket, not a list
	host.PutUint32(b[8:], sequence)

	req := b[headerSize:]
	req[0] = unix.AF_INET6
	if t.local.Addr().Is4() {
		req[0] = unix.AF_INET
	}
	req[1] = unix.IPPROTO_TCP
	host.PutUint32(req[4:], 1<<unix.BPF_TCP_ESTABLISHED) // the kernel ignores it in exact questions: parseReply checks the state

	id := req[8:]
	binary.BigEndian.PutUint16(id[idSport:], t.local.Port())
	binary.BigEndian.PutUint16(id[idDport:], t.remote.Port())
	copy(id[idSrc:], t.local.Addr().AsSlice())
	copy(id[idDst:], t.remote.Addr().AsSlice())
	host.PutUint64(id[idCookie:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

// parseReply decodes the kernel's answer to request(t). It returns an owner only if the answer is one whole row for exactly the
// addresses t, in state ESTABLISHED, of a socket that a process holds. The kernel also answers with a listening socket of the
// local address, or with the remains of a closed one: those rows carry uids that say nothing about the peer.
func parseReply(b []byte, t tuple) (owner, error) {
	host := binary.NativeEndian
	if len(b) < headerSize {
		return owner{}, errors.New("the kernel's answer is too short for a netlink header")
	}
	size := host.Uint32(b)
	if size < headerSize || uint64(size) > uint64(len(b)) || host.Uint32(b[8:]) != sequence {
		return owner{}, errors.New("the kernel's answer has a damaged netlink header")
	}
	body := b[headerSize:size]
	switch kind := host.Uint16(b[4:]); kind {
	case unix.SOCK_DIAG_BY_FAMILY:
	case unix.NLMSG_ERROR:
		return owner{}, replyError(body)
	default:
		return owner{}, fmt.Errorf("the kernel's answer has the unexpected type %d", kind)
	}
	if len(body) < rowSize {
		return owner{}, fmt.Errorf("the kernel's answer has %d bytes where a socket needs %d", len(body), rowSize)
	}
	if err := checkRow(body, t); err != nil {
		return owner{}, err
	}
	return owner{
		uid:    host.Uint32(body[rowUID:]),
		inode:  host.Uint32(body[rowInode:]),
		cookie: host.Uint64(body[4+idCookie:]),
	}, nil
}

func checkRow(row []byte, t tuple) error {
	if state := row[1]; state != unix.BPF_TCP_ESTABLISHED {
		return fmt.Errorf("its socket is in state %s, not ESTABLISHED: the client must keep the connection open in both directions until the answer has arrived", stateName(state))
	}
	found, err := rowTuple(row)
	if err != nil {
		return err
	}
	if found != t {
		return fmt.Errorf("the kernel answered for the addresses %s and %s, not for %s and %s", found.local, found.remote, t.local, t.remote)
	}
	// A socket that its process has just closed has no inode, and its uid reads 0. The kernel fills in the state before the uid and
	// the uid before the inode, without a lock: the state alone could be from before the close.
	if binary.NativeEndian.Uint32(row[rowInode:]) == 0 {
		return errors.New("no process holds its socket any more: the client must keep the connection open until the answer has arrived")
	}
	return nil
}

func rowTuple(row []byte) (tuple, error) {
	id := row[4 : 4+sockIDSize]
	var src, dst netip.Addr
	switch row[0] {
	case unix.AF_INET:
		src = netip.AddrFrom4([4]byte(id[idSrc:]))
		dst = netip.AddrFrom4([4]byte(id[idDst:]))
	case unix.AF_INET6: // a dual-stack socket that speaks IPv4 is listed here too, with ::ffff:a.b.c.d
		src = netip.AddrFrom16([16]byte(id[idSrc:]))
		dst = netip.AddrFrom16([16]byte(id[idDst:]))
		if src.Is4In6() != dst.Is4In6() {
			return tuple{}, fmt.Errorf("the kernel's answer mixes address families: %s and %s", src, dst)
		}
	default:
		return tuple{}, fmt.Errorf("the kernel's answer has the unexpected address family %d", row[0])
	}
	return tuple{
		local:  plain(netip.AddrPortFrom(src, binary.BigEndian.Uint16(id[idSport:]))),
		remote: plain(netip.AddrPortFrom(dst, binary.BigEndian.Uint16(id[idDport:]))),
	}, nil
}

// replyError decodes struct nlmsgerr.
func replyError(body []byte) error {
	if len(body) < 4 {
		return errors.New("the kernel's error message is too short")
	}
	code := int32(binary.NativeEndian.Uint32(body))
	switch errno := unix.Errno(-code); {
	case code >= 0:
		return errors.New("the kernel acknowledged the question instead of answering it")
	case errno == unix.ENOENT:
		return fmt.Errorf("no socket has its address: the client has closed the connection, or this kernel lacks tcp_diag: %w", errno)
	default:
		return fmt.Errorf("the kernel refused the question: %w", errno)
	}
}

func stateName(state byte) string {
	names := [...]string{
		unix.BPF_TCP_ESTABLISHED: "ESTABLISHED", unix.BPF_TCP_SYN_SENT: "SYN_SENT", unix.BPF_TCP_SYN_RECV: "SYN_RECV",
		unix.BPF_TCP_FIN_WAIT1: "FIN_WAIT1", unix.BPF_TCP_FIN_WAIT2: "FIN_WAIT2", unix.BPF_TCP_TIME_WAIT: "TIME_WAIT",
		unix.BPF_TCP_CLOSE: "CLOSE", unix.BPF_TCP_CLOSE_WAIT: "CLOSE_WAIT", unix.BPF_TCP_LAST_ACK: "LAST_ACK",
		unix.BPF_TCP_LISTEN: "LISTEN", unix.BPF_TCP_CLOSING: "CLOSING", unix.BPF_TCP_NEW_SYN_RECV: "NEW_SYN_RECV",
	}
	if int(state) < len(names) && names[state] != "" {
		return names[state]
	}
	return fmt.Sprintf("%d", state)
}
