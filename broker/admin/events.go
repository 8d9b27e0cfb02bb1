package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/credfree/credfree/broker/recent"
)

const (
	keepAlive = 15 * time.Second
	eventTime = 10 * time.Second // for a reader to take an event
)

// EventID is the id of the event of an issuance: its number, and when its broker
// began, since each begins to count anew.
func EventID(number uint64, began time.Time) string {
	return strconv.FormatUint(number, 10) + "-" + strconv.FormatInt(began.UnixNano(), 36)
}

// after is the number of the issuance that an event was about: nought if it is no
// event of this broker's, so that all of it is news.
func after(event string, began time.Time) uint64 {
	number, _, _ := strings.Cut(event, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || EventID(n, began) != event {
		return 0
	}
	return n
}

// events streams issuances as they happen, as server-sent events: an event
// "issuance" each, with its EventID, and "missed" with how many a reader was too
// slow for. An id without an event says how far the stream has come: who is sent
// nothing can go on there, too. With rows=true each is a row of the page's table.
func (h *Handler) events(w http.ResponseWriter, r *http.Request) {
	values, q, problem := h.filters(r)
	if problem != nil {
		writeJSON(w, http.StatusBadRequest, problem)
		return
	}
	held := h.cfg.Memory.Held()
	last := r.Header.Get("Last-Event-ID")
	if said := values.Get("after"); last == "" && strings.Contains(said, "-") { // of a page that begins anew
		last = said
	}
	if last != "" {
		q.After = after(last, held.Since)
	} else if !values.Has("after") {
		q.After = held.Seen
	}
	if q.After > held.Seen { // counted by a broker that was here before
		q.After = 0
	}
	before, live := h.cfg.Memory.Subscribe(q)
	if live == nil {
		writeJSON(w, http.StatusServiceUnavailable, Problem{"too many are reading already", "close other pages and credfree watch"})
		return
	}
	defer h.cfg.Memory.Unsubscribe(live)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	s := &stream{w: w, control: http.NewResponseController(w), rows: values.Get("rows") != "", began: held.Since}
	s.write([]byte(": credfree\n\n"))
	s.place(q.After)
	s.missed(h.cfg.Memory.Missed(live))
	for i := range before {
		s.issuance(&before[i])
	}
	h.follow(r, live, s)
}

// follow sends what comes until the reader is gone, or the listener ends.
func (h *Handler) follow(r *http.Request, live *recent.Subscription, s *stream) {
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for s.err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-h.done:
			return
		case i := <-live.C():
			s.issuance(&i)
		case <-tick.C:
			s.write([]byte(":\n\n"))
			if last := h.cfg.Memory.Last(); len(live.C()) == 0 { // then all up to last that match were sent
				s.place(last)
			}
		}
		s.missed(h.cfg.Memory.Missed(live))
	}
}

// stream writes events, and keeps the first error.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	rows    bool
	began   time.Time // the broker
	err     error
}

// place says that all up to the number has been sent.
func (s *stream) place(number uint64) {
	s.write(fmt.Appendf(nil, "id: %s\n\n", EventID(number, s.began)))
}

func (s *stream) missed(n int) {
	if n > 0 {
		s.write(fmt.Appendf(nil, "event: missed\ndata: %d\n\n", n))
	}
}

func (s *stream) issuance(i *recent.Issuance) {
	data, err := json.Marshal(i)
	if s.rows {
		data, err = rowOf(i)
	}
	if err != nil {
		s.err = err
		return
	}
	event := fmt.Appendf(nil, "id: %s\nevent: issuance\n", EventID(i.Number, s.began))
	for line := range bytes.Lines(data) {
		event = append(append(append(event, "data: "...), bytes.TrimRight(line, "\r\n")...), '\n')
	}
	s.write(append(event, '\n'))
}

func (s *stream) write(event []byte) {
	if s.err != nil {
		return
	}
	// A recorder in a test has no deadlines; a connection that has lost them
	// fails at the write.
	_ = s.control.SetWriteDeadline(time.Now().Add(eventTime))
	if _, s.err = s.w.Write(event); s.err == nil { //nolint:gosec // G705: what came with the request is written as a number, and no browser takes an event stream for a page
		s.err = s.control.Flush()
	}
}
