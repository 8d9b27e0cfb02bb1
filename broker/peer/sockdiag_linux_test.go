package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// message is the kernel's answer, declared once more in another way: the parser cuts it up by offsets.
type message struct {
	Len            uint32
	Type, Flags    uint16
	Seq, Portid    uint32
	Family, State  uint8
	Timer, Retrans uint8
	Sport, Dport   [2]byte
	Src, Dst       [16]byte
	If             uint32
	Cookie         [2]uint32
	Expires        uint32
	Rqueue, Wqueue uint32
	UID, Inode     uint32
}

func (m message) bytes() []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.NativeEndian, m)
	return b.Bytes()
}

var (
	askedV4 = tuple{local: netip.MustParseAddrPort("127.0.0.1:40000"), remote: netip.MustParseAddrPort("127.0.0.1:7400")}
	askedV6 = tuple{local: netip.MustParseAddrPort("[::1]:40000"), remote: netip.MustParseAddrPort("[::1]:7400")}
)

// row is a good answer to a question for t.
func row(t tuple) message {
	m := message{Len: 88, Type: unix.SOCK_DIAG_BY_FAMILY, Seq: sequence, Portid: 1234, Family: unix.AF_INET6, State: 1,
		Cookie: [2]uint32{7, 8}, UID: 1003, Inode: 99}
	if t.local.Addr().Is4() {
		m.Family = unix.AF_INET
	}
	binary.BigEndian.PutUint16(m.Sport[:], t.local.Port())
	binary.BigEndian.PutUint16(m.Dport[:], t.remote.Port())
	copy(m.Src[:], t.local.Addr().AsSlice())
	copy(m.Dst[:], t.remote.Addr().AsSlice())
	return m
}

func mappedRow(t tuple) message {
	m := row(t)
	m.Family, m.Src, m.Dst = unix.AF_INET6, t.local.Addr().As16(), t.remote.Addr().As16()
	return m
}

func TestParseReply(t *testing.T) {
	change := func(m message, f func(*message)) []byte {
		f(&m)
		return m.bytes()
	}
	failure := func(code int32) []byte {
		b := binary.NativeEndian.AppendUint32(nil, 20)
		b = binary.NativeEndian.AppendUint16(b, unix.NLMSG_ERROR)
		b = append(b, 0, 0)
		b = binary.NativeEndian.AppendUint32(b, sequence)
		b = binary.NativeEndian.AppendUint32(b, 0)
		return binary.NativeEndian.AppendUint32(b, uint32(code))
	}
	v4, v6 := row(askedV4), row(askedV6)
	tests := []struct {
		name  string
		asked tuple
		reply []byte
		want  string // part of the error; "" is success
	}{
		{"IPv4", askedV4, v4.bytes(), ""},
		{"IPv6", askedV6, v6.bytes(), ""},
		{"IPv4 on an IPv6 socket", askedV4, mappedRow(askedV4).bytes(), ""},
		{"with attributes", askedV4, append(change(v4, func(m *message) { m.Len = 96 }), 8, 0, 8, 0, 0, 0, 0, 0), ""},
		{"uid 0", askedV4, change(v4, func(m *message) { m.UID = 0 }), ""},

		{"nothing", askedV4, nil, "too short"},
		{"half a header", askedV4, v4.bytes()[:15], "too short"},
		{"header only", askedV4, change(v4, func(m *message) { m.Len = 16 })[:16], "has 0 bytes"},
		{"half a row", askedV4, change(v4, func(m *message) { m.Len = 87 })[:87], "has 71 bytes"},
		{"length beyond the end", askedV4, change(v4, func(m *message) { m.Len = 89 }), "damaged"},
		{"huge length", askedV4, change(v4, func(m *message) { m.Len = 1<<32 - 1 }), "damaged"},
		{"length too small", askedV4, change(v4, func(m *message) { m.Len = 15 }), "damaged"},
		{"answer to another question", askedV4, change(v4, func(m *message) { m.Seq++ }), "damaged"},
		{"end of a list", askedV4, change(v4, func(m *message) { m.Type = unix.NLMSG_DONE }), "unexpected type 3"},
		{"no such socket", askedV4, failure(-int32(unix.ENOENT)), "no socket has its address"},
		{"forbidden", askedV4, failure(-int32(unix.EPERM)), "operation not permitted"},
		{"error 0", askedV4, failure(0), "acknowledged"},
		{"positive error", askedV4, failure(2), "acknowledged"},
		{"error without code", askedV4, change(v4, func(m *message) { m.Len, m.Type = 18, unix.NLMSG_ERROR }), "error message is too short"},

		{"listener", askedV4, change(v4, func(m *message) { m.State, m.UID, m.Dport, m.Dst = 10, 0, [2]byte{}, [16]byte{} }), "state LISTEN"},
		{"closed by its process", askedV4, change(v4, func(m *message) { m.State, m.UID, m.Inode = 5, 0, 0 }), "state FIN_WAIT2"},
		{"time-wait", askedV6, change(v6, func(m *message) { m.State, m.UID, m.Inode = 6, 0, 0 }), "state TIME_WAIT"},
		{"not yet connected", askedV4, change(v4, func(m *message) { m.State = 2 }), "state SYN_SENT"},
		{"server gone", askedV4, change(v4, func(m *message) { m.State = 8 }), "state CLOSE_WAIT"},
		{"no state", askedV4, change(v4, func(m *message) { m.State = 0 }), "state 0"},
		{"unheard-of state", askedV4, change(v4, func(m *message) { m.State = 200 }), "state 200"},
		{"closed while the kernel was writing the row", askedV4, change(v4, func(m *message) { m.UID, m.Inode = 0, 0 }), "no process holds"},

		{"another client port", askedV4, change(v4, func(m *message) { m.Sport[1]++ }), "answered for"},
		{"another server port", askedV4, change(v4, func(m *message) { m.Dport[1]++ }), "answered for"},
		{"another client address", askedV4, change(v4, func(m *message) { m.Src[3]++ }), "answered for"},
		{"another server address", askedV4, change(v4, func(m *message) { m.Dst[3]++ }), "answered for"},
		{"another IPv6 address", askedV6, change(v6, func(m *message) { m.Src[15]++ }), "answered for"},
		{"the server's own socket", askedV4, row(tuple{local: askedV4.remote, remote: askedV4.local}).bytes(), "answered for"},
		{"IPv6 asked, IPv4 answered", askedV6, v4.bytes(), "answered for"},
		{"IPv4 asked, IPv6 answered", askedV4, v6.bytes(), "answered for"},
		{"IPv4 bytes called IPv6", askedV4, change(v4, func(m *message) { m.Family = unix.AF_INET6 }), "answered for"},
		{"half mapped", askedV4, change(mappedRow(askedV4), func(m *message) { m.Dst = v6.Dst }), "mixes address families"},
		{"no family", askedV4, change(v4, func(m *message) { m.Family = 0 }), "family 0"},
		{"unix family", askedV4, change(v4, func(m *message) { m.Family = unix.AF_UNIX }), "family 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseReply(tt.reply, tt.asked)
			if tt.want != "" {
				if got != (owner{}) || err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %+v, %v; want %q", got, err, tt.want)
				}
				return
			}
			uid := binary.NativeEndian.Uint32(tt.reply[80:])
			if err != nil || got.uid != uid || got.inode != 99 || got.cookie == 0 {
				t.Errorf("got %+v, %v; want uid %d, inode 99 and a cookie", got, err, uid)
			}
		})
	}
}

func TestRequestIsOneExactQuestion(t *testing.T) {
	for _, asked := range []tuple{askedV4, askedV6} {
		b := request(asked)
		if len(b) != 72 || binary.NativeEndian.Uint32(b) != 72 {
			t.Errorf("%v: %d bytes, want 72", asked, len(b))
		}
		if flags := binary.NativeEndian.Uint16(b[6:]); flags != unix.NLM_F_REQUEST {
			t.Errorf("%v: flags %#x, want a question for one socket", asked, flags)
		}
	}
}

// A signal ends a call early; that must neither fail the look-up nor make it endless.
func TestInterruptedCallsAreRepeated(t *testing.T) {
	farFuture, longAgo := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	calls := 0
	err := retryInterrupted(farFuture, func() error {
		if calls++; calls < 4 {
			return unix.EINTR
		}
		return unix.EPERM
	})
	if calls != 4 || !errors.Is(err, unix.EPERM) {
		t.Errorf("%d calls, %v; want 4, EPERM", calls, err)
	}
	calls = 0
	err = retryInterrupted(longAgo, func() error { calls++; return unix.EINTR })
	if calls != 1 || !errors.Is(err, unix.EINTR) {
		t.Errorf("after the deadline: %d calls, %v; want 1, EINTR", calls, err)
	}
}

// FuzzParseReply demands: no panic, and an owner only if the bytes say, read in another way, that the very socket asked for is
// ESTABLISHED and held by a process. The seeds are answers that a kernel gave.
func FuzzParseReply(f *testing.F) {
	seeds, err := os.ReadDir("testdata/fuzz/FuzzParseReply")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Add(row(askedV4).bytes(), askedV4.local.String(), askedV4.remote.String())
	f.Add(row(askedV6).bytes(), askedV6.local.String(), askedV6.remote.String())
	f.Fuzz(func(t *testing.T, reply []byte, local, remote string) {
		l, err1 := netip.ParseAddrPort(local)
		r, err2 := netip.ParseAddrPort(remote)
		if err1 != nil || err2 != nil {
			return
		}
		asked := tuple{plain(l), plain(r)}
		got, err := parseReply(reply, asked)
		if err != nil {
			if got != (owner{}) {
				t.Fatalf("got %+v together with %v", got, err)
			}
			return
		}
		var m message
		if err := binary.Read(bytes.NewReader(reply), binary.NativeEndian, &m); err != nil {
			t.Fatalf("an owner from %d bytes", len(reply))
		}
		ends := func(addr [16]byte, port [2]byte) netip.AddrPort {
			ip := netip.AddrFrom16(addr).Unmap()
			if m.Family == unix.AF_INET {
				ip = netip.AddrFrom4([4]byte(addr[:4]))
			}
			return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(port[:]))
		}
		if found := (tuple{ends(m.Src, m.Sport), ends(m.Dst, m.Dport)}); found != asked {
			t.Errorf("asked for %v, accepted %v", asked, found)
		}
		if m.Family != unix.AF_INET && m.Family != unix.AF_INET6 {
			t.Errorf("accepted family %d", m.Family)
		}
		if m.State != unix.BPF_TCP_ESTABLISHED || m.Inode == 0 || m.Type != unix.SOCK_DIAG_BY_FAMILY || m.Seq != sequence {
			t.Errorf("accepted %+v", m)
		}
		if got.uid != m.UID || got.inode != m.Inode {
			t.Errorf("got %+v from %+v", got, m)
		}
	})
}
