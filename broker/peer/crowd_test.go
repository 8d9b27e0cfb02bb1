package peer

import (
	"net"
	"sync"
	"testing"
)

// One caller takes no more than its share of a listener, and gets it back by closing.
func TestCrowd(t *testing.T) {
	var c crowd
	greedy := Peer{Network: "tcp", UID: 10001, Known: true}
	var leave func()
	for n := range maxConnections {
		var ok bool
		who := greedy
		who.PID = int32(n)
		if leave, ok = c.enter(who); !ok {
			t.Fatalf("connection %d was refused", n)
		}
	}
	before := Refused()
	if _, ok := c.enter(greedy); ok || Refused() != before+1 {
		t.Errorf("got in: %t, refused %d", ok, Refused()-before)
	}
	for _, other := range []Peer{{Network: "tcp", UID: 10002, Known: true}, {Network: "tcp"}, {Network: "unix", UID: 10001, Known: true}} {
		if _, ok := c.enter(other); !ok {
			t.Errorf("%+v was refused for what somebody else has", other)
		}
	}
	for range 3 { // a connection may be closed more than once
		leave()
	}
	if _, ok := c.enter(greedy); !ok {
		t.Error("a place that was given back was not taken")
	}
	if _, ok := c.enter(greedy); ok {
		t.Error("one connection gave back several places")
	}
}

// A connection gives its place back when it is closed, however it came.
func TestClosedConnectionsLeave(t *testing.T) {
	listener, err := ListenLoopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	var all sync.WaitGroup
	all.Go(func() {
		for range 3 {
			c, err := net.Dial("tcp", listener.Addr().String()) //nolint:noctx // it listens
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
		}
	})
	crowd := &listener.(*tcpListener).crowd
	var accepted []net.Conn
	for range 3 {
		c, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		accepted = append(accepted, c)
	}
	all.Wait()
	for _, c := range accepted {
		if len(crowd.of) == 0 {
			t.Error("a connection has no place")
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(crowd.of) != 0 {
		t.Errorf("got %v after all have left", crowd.of)
	}
}
