package exchange_test

import (
	"encoding/base64"
	"testing"
)

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func decode(t testing.TB, s string) []byte {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
