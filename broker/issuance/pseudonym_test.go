package issuance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/credfree/credfree/broker/issuance"
)

const (
	someTenant = "8A0C5B0E-0000-4000-8000-0123456789AB"
	someUser   = "6a7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a06"
)

// The value is fixed: hashes that were written last year are looked up by it.
// printf %s tenant/object | openssl dgst -sha256 -hmac key
func TestPseudonym(t *testing.T) {
	p := issuance.NewPseudonyms([]byte("0123456789abcdef"))
	got := p.Of(someTenant, someUser)
	if want := "ac25171ac87bf73561d9723b3be5e77c63d5c84a1dddec0bf2ae7239694ee41a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got != p.Of(strings.ToLower(someTenant), strings.ToUpper(someUser)) {
		t.Error("case makes another user")
	}
	if other := issuance.NewPseudonyms([]byte("0123456789abcdeg")).Of(someTenant, someUser); other == got {
		t.Error("another key makes the same hash")
	}
	if text := fmt.Sprintf("%v %+v %#v %s", p, p, p, p); strings.Contains(text, "0123") || strings.Contains(text, "48") {
		t.Errorf("the key is shown: %s", text)
	}
}

// With pseudonyms, neither line nor span has the user's ids, and both have the
// same hash.
func TestUsersAreHidden(t *testing.T) {
	for _, format := range []issuance.Format{issuance.Native, issuance.OCSF} {
		var sink bytes.Buffer
		spans := tracetest.NewInMemoryExporter()
		r, err := issuance.NewRecorder(issuance.Config{Audit: &sink, Format: format,
			Tracer: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("test")})
		check(t, err)
		p := issuance.NewPseudonyms([]byte("0123456789abcdef"))
		check(t, r.Close(t.Context(), &issuance.Record{ID: "i", Start: time.Now(), UserTenant: someTenant, UserObjectID: someUser, Decision: issuance.Allow, Pseudonyms: p}))
		all, err := json.Marshal(spans.GetSpans())
		check(t, err)
		for name, text := range map[string]string{"line": sink.String(), "span": string(all)} {
			if strings.Contains(strings.ToLower(text), someUser) || strings.Contains(text, someTenant) || !strings.Contains(text, p.Of(someTenant, someUser)) {
				t.Errorf("%s, %s: got %s", format, name, text)
			}
		}
		sink.Reset()
		check(t, r.Close(t.Context(), &issuance.Record{ID: "i", Start: time.Now(), Decision: issuance.Allow, Pseudonyms: p}))
		if strings.Contains(sink.String(), "user_hash") {
			t.Errorf("nobody has a hash: %s", sink.String())
		}
	}
}
