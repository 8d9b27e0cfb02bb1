package usertoken_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The claims are those that were signed, to the last byte, and of nothing else.
func TestVerifyClaims(t *testing.T) {
	v := newVerifier(t, newPublisher())
	raw := sign(t, header(), good("anything", map[string]any{"at": []any{"all", 1.5}}))
	user, payload, err := v.VerifyClaims(t.Context(), raw, ours)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if payload.Reveal() != string(signed) {
		t.Errorf("got the payload %q, want %q", payload.Reveal(), signed)
	}
	same, err := v.Verify(t.Context(), raw, ours)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(same, user); diff != "" {
		t.Errorf("another user than Verify's (-want +got):\n%s", diff)
	}
	for name, bad := range map[string]string{"changed": raw[:len(raw)-8] + "AAAAAAAA", "none": "", "other audience": sign(t, header(), good("aud", "x"))} {
		if user, payload, err := v.VerifyClaims(t.Context(), bad, ours); err == nil || payload.Len() != 0 || user.ObjectID != "" {
			t.Errorf("%s: got %+v and %d bytes of claims", name, user, payload.Len())
		}
	}
}
