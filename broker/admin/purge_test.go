package admin_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/admin"
)

// Whoever selects nothing is told what to write instead, and nothing is purged.
func TestPurgeRefuses(t *testing.T) {
	o := newOperators(t)
	for form, want := range map[string]struct {
		status int
		hint   string
	}{
		"":                         {http.StatusBadRequest, "all=true alone"},
		"all=true&agent=a":         {http.StatusBadRequest, "all=true alone"},
		"agent=":                   {http.StatusBadRequest, "each once and with a value"},
		"agent=a%zz":               {http.StatusBadRequest, "send a form"},
		"agent=Researcher":         {http.StatusNotFound, "did you mean researcher?"},
		"user=alice":               {http.StatusBadRequest, "write TENANT/OBJECT-ID"},
		"agent=nobody&scope=graph": {http.StatusNotFound, "did you mean researcher?"},
	} {
		status, text := o.ask(t, http.MethodPost, "/purge", form, "Content-Type", "application/x-www-form-urlencoded")
		var problem admin.Problem
		if err := json.Unmarshal([]byte(text), &problem); err != nil || status != want.status || problem.Error == "" || !strings.Contains(problem.Hint, want.hint) {
			t.Errorf("%q: got %d %s, want %d and the hint %q", form, status, text, want.status, want.hint)
		}
	}
	if len(o.purged) > 0 {
		t.Fatalf("%v purged", o.purged)
	}
	status, text := o.ask(t, http.MethodPost, "/purge", "scope=graph")
	if status != http.StatusOK || text != `{"tokens":7,"sessions":1}`+"\n" || len(o.purged) != 1 || o.purged[0].Scope != "https://graph.microsoft.com/.default" {
		t.Errorf("got %d %s, and %v purged", status, text, o.purged)
	}
}

// Whoever may not purge is told who may, and how to be one of them.
func TestPurgeIsForOperators(t *testing.T) {
	req := httptest.NewRequest(http.MethodPost, "/purge", strings.NewReader("all=true"))
	req.Host, req.RemoteAddr = "127.0.0.1:7401", "127.0.0.1:5555"
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	handler(t).ServeHTTP(w, req)
	var problem admin.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || w.Code != http.StatusForbidden || problem.Error == "" || !strings.Contains(problem.Hint, "operator key") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// The page asks about nothing that would purge nothing, shows what it has
// understood, and refuses what has come to mean nothing since.
func TestPurgePageRefuses(t *testing.T) {
	o := newOperators(t)
	for query, want := range map[string]struct {
		status int
		text   string
	}{
		"agent=Researcher":  {http.StatusNotFound, "did you mean researcher?"},
		"user=alice":        {http.StatusBadRequest, "write TENANT/OBJECT-ID"},
		"agent=":            {http.StatusBadRequest, "Choose an agent"},
		"agent=researcher%": {http.StatusBadRequest, "percent-encode"},
		"all=true;agent=x":  {http.StatusBadRequest, "percent-encode"},
	} {
		status, text := o.ask(t, http.MethodGet, "/purge/confirm?"+query, "", browser...)
		if status != want.status || !strings.Contains(text, want.text) || strings.Contains(text, "form_key") {
			t.Errorf("%s: got %d %s, want %d and %q", query, status, text, want.status, want.text)
		}
	}
	_, page := o.ask(t, http.MethodGet, "/purge/confirm?scope=graph", "", browser...)
	if !strings.Contains(page, "<code>https://graph.microsoft.com/.default</code>") {
		t.Errorf("got %s", page)
	}
	key := regexp.MustCompile(`name="form_key" value="([^"]+)"`).FindStringSubmatch(page)
	if key == nil {
		t.Fatalf("no form in %s", page)
	}
	form := url.Values{"agent": {"Researcher"}, "form_key": {key[1]}}.Encode()
	if status, text := o.ask(t, http.MethodPost, "/purge/confirm", form, "Origin", o.server.URL); status != http.StatusNotFound || !strings.Contains(text, "did you mean researcher?") || len(o.purged) > 0 {
		t.Errorf("got %d %s, and %v purged", status, text, o.purged)
	}
}

func TestPurgedInWords(t *testing.T) {
	for purged, want := range map[admin.Purged]string{
		{}:                        "0 tokens and 0 sessions",
		{Tokens: 1, Sessions: 1}:  "1 token and 1 session",
		{Tokens: 2, Sessions: 10}: "2 tokens and 10 sessions",
	} {
		if got := purged.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
