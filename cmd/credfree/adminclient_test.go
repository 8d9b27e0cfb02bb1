package main

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

// Whatever an admin listener refuses, there is a hint, in the words of whoever
// asked: what the flags say wrongly is a matter of usage.
func TestRefusedByTheAdminListener(t *testing.T) {
	client := &adminClient{base: "http://127.0.0.1:7401", command: "traces"}
	for name, test := range map[string]struct {
		method string
		status int
		body   string
		code   int
		text   string
		hint   string
	}{
		"a filter":        {http.MethodGet, 400, `{"error":"there is no filter x","hint":"the filters are correlation_id"}`, exitUsage, "there is no filter x", "credfree traces --help lists the flags"},
		"a selection":     {http.MethodPost, 400, `{"error":"that is no user","hint":"write OBJECT-ID"}`, exitUsage, "that is no user", "write OBJECT-ID"},
		"unknown":         {http.MethodPost, 404, `{"error":"no agent x","hint":"did you mean y?"}`, exitError, "no agent x", "did you mean y?"},
		"not an operator": {http.MethodPost, 403, `{"error":"this is for root","hint":"present the operator key"}`, exitError, "this is for root", "present the operator key"},
		"another program": {http.MethodPost, 404, "404 page not found\n", exitError, "404 page not found", "is http://127.0.0.1:7401 the address of an admin listener? see --admin"},
	} {
		err := client.refused(test.method, test.status, []byte(test.body))
		got, ok := errors.AsType[*failure](err)
		if !ok || got.code != test.code || !strings.HasSuffix(got.Error(), ": "+test.text) || len(got.hints) != 1 || got.hints[0] != test.hint {
			t.Errorf("%s: got %+v, want exit code %d, %q and the hint %q", name, err, test.code, test.text, test.hint)
		}
	}
}
