package admin_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/admin"
)

// A query that cannot be read is refused wherever there are filters: what is left
// of it would choose more than was meant.
func TestUnreadableQueries(t *testing.T) {
	o := newOperators(t)
	o.close() // a stream that should not have begun ends
	i := issuance(1)
	o.memory.Add(&i)
	for _, query := range []string{"decision=deny%zz", "decision=deny;agent=zz", "%"} {
		for _, path := range []string{"/issuances", "/issuances/events", "/issuances/" + i.ID} {
			status, text := o.ask(t, http.MethodGet, path+"?"+query, "")
			var problem admin.Problem
			if err := json.Unmarshal([]byte(text), &problem); err != nil || status != http.StatusBadRequest || problem.Error != "the query cannot be read" || problem.Hint == "" {
				t.Errorf("%s?%s: got %d %s", path, query, status, text)
			}
		}
		for _, path := range []string{"/", "/issuances", "/issuances/" + i.ID} {
			status, text := o.ask(t, http.MethodGet, path+"?"+query, "", browser...)
			if status != http.StatusBadRequest || !strings.Contains(text, "the query cannot be read") {
				t.Errorf("%s?%s as a page: got %d %s", path, query, status, text)
			}
		}
	}
}

// What no issuance can have is no filter, but a slip of the hand.
func TestFiltersWithFixedWords(t *testing.T) {
	o := newOperators(t)
	o.close() // a stream that should not have begun ends
	for query, want := range map[string]string{
		"decision=Deny": "decision is allow, deny or error",
		"door=OAuth":    "door is oauth, managed_identity, auth_sidecar or call_through",
		"cache=refresh": "cache is hit, joined or miss",
		"reason=Denied": "reason is a word of lower-case letters, digits and underscores",
		"reason=a+b":    "reason is a word",
	} {
		for _, path := range []string{"/issuances", "/issuances/events"} {
			if status, text := o.ask(t, http.MethodGet, path+"?"+query, ""); status != http.StatusBadRequest || !strings.Contains(text, want) {
				t.Errorf("%s?%s: got %d %s, want %q", path, query, status, text, want)
			}
		}
		if status, text := o.ask(t, http.MethodGet, "/?"+query, "", browser...); status != http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%s: got %d", query, status)
		}
	}
	for _, query := range []string{"decision=error", "door=call_through", "cache=joined", "reason=entra_rejected", "decision=&door=&cache=&reason=", "agent=-&user=x&scope=x"} {
		if status, text := o.ask(t, http.MethodGet, "/issuances?"+query, ""); status != http.StatusOK {
			t.Errorf("%s: got %d %s", query, status, text)
		}
	}
}

// A list of nothing is a list.
func TestEmptyLists(t *testing.T) {
	o := newOperators(t)
	if _, text := o.ask(t, http.MethodGet, "/issuances", ""); !strings.Contains(text, `"issuances": []`) {
		t.Errorf("got %s", text)
	}
	i := issuance(1)
	i.Steps = nil
	o.memory.Add(&i)
	if _, text := o.ask(t, http.MethodGet, "/issuances/"+i.ID, ""); !strings.Contains(text, `"steps": []`) || strings.Contains(text, "null") {
		t.Errorf("got %s", text)
	}
}
