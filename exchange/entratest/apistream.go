package entratest

import (
	"bufio"
	"context"
	"crypto/sha1" // RFC 6455 asks for it; nothing is protected by it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxEvents        = 10_000
	maxEventInterval = time.Minute
	maxFrame         = 64 << 10
)

// stream sends events one by one, so that what is between here and the client
// shows whether it waits for the end of an answer.
func (a api) stream(w http.ResponseWriter, r *http.Request, _ caller) {
	events, interval := 5, 100*time.Millisecond
	var err1, err2 error
	if text := r.URL.Query().Get("events"); text != "" {
		events, err1 = strconv.Atoi(text)
	}
	if text := r.URL.Query().Get("interval"); text != "" {
		interval, err2 = time.ParseDuration(text)
	}
	if err1 != nil || err2 != nil || events < 0 || events > maxEvents || interval < 0 || interval > maxEventInterval {
		apiError(w, http.StatusBadRequest, "BadRequest", "events is a number up to 10000, interval a duration up to 1m.")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	for i := range events {
		if i > 0 && !sleep(r.Context(), interval) {
			return
		}
		if _, err := fmt.Fprintf(w, "id: %d\ndata: {\"event\":%d}\n\n", i, i); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush() // not every writer can, and none has to
	}
}

// sleep says whether the time passed before the context was done.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// webSocket is RFC 6455 as far as an echo needs it. Like a careful API it ends
// the connection when the token expires.
func (a api) webSocket(w http.ResponseWriter, r *http.Request, c caller) {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	if !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket") ||
		r.Header.Get("Sec-WebSocket-Version") != "13" || err != nil || len(key) != 16 {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Sec-WebSocket-Version", "13")
		apiError(w, http.StatusUpgradeRequired, "UpgradeRequired", "This is a WebSocket of version 13.")
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		apiError(w, http.StatusHTTPVersionNotSupported, "HTTPVersionNotSupported", "WebSockets are served with HTTP/1.1 only.")
		return
	}
	defer conn.Close()
	// The server forgets a connection it has given away: the end of the request
	// must close it.
	defer context.AfterFunc(r.Context(), func() { _ = conn.Close() })()
	if conn.SetDeadline(time.Now().Add(c.Expiry.Time().Sub(a.now()))) != nil {
		return
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: "+base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n"); err != nil {
		return
	}
	echoFrames(conn, buffered.Reader)
}

func hasToken(h http.Header, name, want string) bool {
	for token := range strings.SplitSeq(strings.Join(h.Values(name), ","), ",") {
		if strings.EqualFold(strings.TrimSpace(token), want) {
			return true
		}
	}
	return false
}

const (
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// echoFrames sends every frame back until one closes the connection. Fragments
// of a message come back as such.
func echoFrames(conn net.Conn, r *bufio.Reader) {
	for {
		head, payload, err := readFrame(r)
		if err != nil {
			// 1002: protocol error. Who just went away does not read it.
			_ = writeFrame(conn, 0x80|opClose, binary.BigEndian.AppendUint16(nil, 1002))
			return
		}
		switch head & 0x0f {
		case opPong:
			continue
		case opPing:
			head = 0x80 | opPong
		}
		if writeFrame(conn, head, payload) != nil || head&0x0f == opClose {
			return
		}
	}
}

var errFrame = errors.New("not a frame of a client")

func readFrame(r *bufio.Reader) (head byte, payload []byte, err error) {
	var start [2]byte
	if _, err := io.ReadFull(r, start[:]); err != nil {
		return 0, nil, err
	}
	head = start[0]
	op, size := head&0x0f, uint64(start[1]&0x7f)
	control := op >= opClose
	if start[1]&0x80 == 0 || head&0x70 != 0 || op > opPong || op > 2 && op < opClose || control && (size > 125 || head&0x80 == 0) {
		return 0, nil, errFrame
	}
	var extended [8]byte
	switch size {
	case 126:
		_, err = io.ReadFull(r, extended[6:])
		size = binary.BigEndian.Uint64(extended[:])
	case 127:
		_, err = io.ReadFull(r, extended[:])
		size = binary.BigEndian.Uint64(extended[:])
	}
	if err != nil || size > maxFrame {
		return 0, nil, errFrame
	}
	var mask [4]byte
	if _, err := io.ReadFull(r, mask[:]); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return head, payload, nil
}

func writeFrame(w io.Writer, head byte, payload []byte) error {
	frame := []byte{head}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, byte(n))
	case n <= 0xffff:
		frame = binary.BigEndian.AppendUint16(append(frame, 126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, 127), uint64(n))
	}
	_, err := w.Write(append(frame, payload...))
	return err
}
