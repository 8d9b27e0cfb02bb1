package admin_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/recent"
)

// A sign-in at Entra that was a refresh's is found by what Entra's log has of it, and
// so are the issuances that its token was for.
func TestTraceOfARefresh(t *testing.T) {
	o := newOperators(t)
	const correlation, trace = "21b6959e-1d20-054a-ec45-32932c35a04d", "21b6959e1d20054aec4532932c35a04d"
	var id recent.TraceID
	if err := id.UnmarshalText([]byte(trace)); err != nil {
		t.Fatal(err)
	}
	for n, name := range []string{"token.refresh", "entra.token"} {
		o.memory.AddSpan(recent.Span{TraceID: id, SpanID: recent.SpanID{byte(n + 1)}, Parent: recent.SpanID{byte(n)}, Name: name, Start: time.Now(), Took: time.Millisecond})
	}
	hit := issuance(1)
	hit.Cache, hit.CorrelationID = "hit", correlation
	o.memory.Add(&hit)
	for _, query := range []string{"correlation_id=" + correlation, "id=" + correlation, "id=" + trace, "trace=" + strings.ToUpper(trace)} {
		status, body := o.ask(t, http.MethodGet, "/issuances?"+query, "")
		var got admin.Issuances
		if err := json.Unmarshal([]byte(body), &got); status != http.StatusOK || err != nil || len(got.Background) != 2 || got.Background[0].Name != "token.refresh" {
			t.Errorf("%s: got %d %v %+v", query, status, err, got.Background)
		}
		if _, page := o.ask(t, http.MethodGet, "/?"+query, "", "Accept", "text/html"); !strings.Contains(page, "A refresh in the background") || !strings.Contains(page, "entra.token") {
			t.Errorf("%s: the page shows no refresh", query)
		}
	}
	// What an issuance waited for is its own.
	for _, query := range []string{"", "id=" + hit.ID, "correlation_id=x", "trace=" + hit.TraceID.String()} {
		if _, body := o.ask(t, http.MethodGet, "/issuances?"+query, ""); strings.Contains(body, "background") {
			t.Errorf("%s: got %s", query, body)
		}
	}
}

// All that match can be seen, when the page does not show them at once.
func TestPageOfAll(t *testing.T) {
	o := newOperators(t)
	for n := range 150 {
		i := issuance(n)
		o.memory.Add(&i)
	}
	_, page := o.ask(t, http.MethodGet, "/?agent=researcher", "", "Accept", "text/html")
	if !strings.Contains(page, `<a href="/?agent=researcher&amp;limit=1000">show all</a>`) || strings.Count(page, "<tr>") > 110 {
		t.Errorf("got %d rows and no way to the others", strings.Count(page, "<tr>"))
	}
	if _, page = o.ask(t, http.MethodGet, "/?agent=researcher&limit=1000", "", "Accept", "text/html"); strings.Contains(page, "show all") || strings.Count(page, "<tr>") < 150 {
		t.Errorf("got %d rows", strings.Count(page, "<tr>"))
	}
}
