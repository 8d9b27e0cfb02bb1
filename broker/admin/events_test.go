package admin_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/recent"
)

// events opens a stream, and returns its lines.
func (o *operators) events(t *testing.T, query string, headers ...string) *bufio.Scanner {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.server.URL+"/issuances/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() }) // the test has ended
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("got %d %s", resp.StatusCode, got)
	}
	lines := bufio.NewScanner(resp.Body)
	expect(t, lines, ": credfree") // it listens
	return lines
}

// expect reads on to a line that holds text.
func expect(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("the stream ended without %q: %v", text, lines.Err())
}

func TestEvents(t *testing.T) {
	o := newOperators(t)
	add := func(n int, change func(*recent.Issuance)) {
		i := issuance(n)
		change(&i)
		o.memory.Add(&i)
	}
	add(1, func(*recent.Issuance) {})
	live := o.events(t, "?decision=deny")
	rows := o.events(t, "?decision=deny&rows=true")
	add(2, func(*recent.Issuance) {})
	add(3, func(i *recent.Issuance) { i.Decision, i.Agent = recent.Deny, "<img src=x>" })
	began := o.memory.Held().Since
	for _, text := range []string{"id: 3-", "event: issuance", `"issuance_id":"00000000000000000000000000000003"`} {
		expect(t, live, text)
	}
	expect(t, rows, "&lt;img src=x&gt;")
	// Who comes back gets what it missed, and who comes back to another broker all.
	again := o.events(t, "", "Last-Event-ID", admin.EventID(1, began))
	expect(t, again, "id: 2-")
	expect(t, again, "id: 3-")
	for _, id := range []string{"99", "2", admin.EventID(2, began.Add(-time.Hour)), admin.EventID(99, began), "x", "-"} {
		expect(t, o.events(t, "", "Last-Event-ID", id), "id: 1-")
	}
	// Browsers can say so in the query alone.
	expect(t, o.events(t, "?after="+admin.EventID(1, began)), "id: 2-")
	for _, id := range []string{admin.EventID(2, began.Add(-time.Hour)), "99", "2-"} {
		expect(t, o.events(t, "?after="+id), "id: 1-")
	}
	// What is not remembered any more is missed, and said to be: 2 and 4 of the hits.
	for n := range recent.MaxIssuances {
		add(n, func(*recent.Issuance) {})
	}
	late := o.events(t, "", "Last-Event-ID", admin.EventID(1, began))
	expect(t, late, "event: missed")
	expect(t, late, "data: 2")
	expect(t, late, "id: 3-")
	expect(t, late, "id: 5-")
}

// A reader that does not read misses some, is told so, and holds up nobody.
func TestSlowReaders(t *testing.T) {
	memory := recent.New(time.Now())
	_, slow := memory.Subscribe(recent.Query{})
	for n := range 100 {
		i := issuance(n)
		memory.Add(&i)
	}
	if missed := memory.Missed(slow); missed != 100-len(slow.C()) || missed == 0 {
		t.Errorf("got %d missed and %d waiting", missed, len(slow.C()))
	}
	var all []*recent.Subscription
	for range recent.MaxSubscriptions - 1 {
		_, s := memory.Subscribe(recent.Query{})
		all = append(all, s)
	}
	if _, s := memory.Subscribe(recent.Query{}); s != nil {
		t.Error("there is no bound")
	}
	memory.Unsubscribe(all[0])
	if _, s := memory.Subscribe(recent.Query{}); s == nil {
		t.Error("nobody makes room")
	}
}

// A reader whose filters match nothing knows all the same how far it has come: it goes
// on there, and is not told that it missed what it never asked for.
func TestQuietStreamsKeepTheirPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("an operator's key, long enough\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		memory := recent.New(time.Now())
		h := handlerWith(t, func(c *admin.Config) { c.Memory, c.Key = memory, peer.NewKeys([]string{file}) })
		add := func(n int) {
			i := issuance(n)
			memory.Add(&i)
		}
		add(1)
		ctx, leave := context.WithCancel(t.Context())
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/issuances/events?decision=deny", nil)
		req.Host, req.RemoteAddr = "127.0.0.1:7401", "127.0.0.1:5555"
		req.Header.Set("Authorization", "Bearer an operator's key, long enough")
		w, done := httptest.NewRecorder(), make(chan struct{})
		go func() {
			defer close(done)
			h.ServeHTTP(w, req)
		}()
		synctest.Wait()
		for n := range 4 {
			add(2 + n)
		}
		time.Sleep(time.Minute)
		leave()
		<-done
		var ids []string
		for line := range strings.Lines(w.Body.String()) {
			if id, ok := strings.CutPrefix(line, "id: "); ok {
				ids = append(ids, strings.TrimSpace(id))
			}
		}
		began := memory.Held().Since
		if len(ids) == 0 || ids[0] != admin.EventID(1, began) || ids[len(ids)-1] != admin.EventID(5, began) || strings.Contains(w.Body.String(), "event:") {
			t.Errorf("got ids %q in %q, want those of 1 and then 5, and no event", ids, w.Body)
		}
	})
}

// The page names its broker from the beginning: its list goes on after a restart, too.
func TestPageStreamNamesItsBroker(t *testing.T) {
	o := newOperators(t)
	i := issuance(1)
	o.memory.Add(&i)
	want := "after=" + admin.EventID(1, o.memory.Held().Since)
	if _, text := o.ask(t, http.MethodGet, "/", "", "Accept", "text/html"); !strings.Contains(text, want) {
		t.Errorf("the page's stream lacks %s", want)
	}
}

// The end of the listener ends the streams, however long somebody would read.
func TestStreamsEnd(t *testing.T) {
	o := newOperators(t)
	lines := o.events(t, "")
	o.close()
	for lines.Scan() { // to its end
	}
}
