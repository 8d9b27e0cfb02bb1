package recent_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/recent"
)

// Issuances that are alike share what they are made of. Whichever field differs,
// each is remembered as it was.
func TestEveryFieldIsRemembered(t *testing.T) {
	m := recent.New(began)
	fields := reflect.TypeFor[recent.Issuance]()
	var want []recent.Issuance
	for n := range fields.NumField() {
		m.Add(issuance(1))
		i := issuance(1)
		other(t, reflect.ValueOf(i).Elem().Field(n))
		m.Add(i) // which numbers it
		want = append([]recent.Issuance{*i}, want...)
	}
	all, _ := m.Find(recent.Query{Limit: 2 * fields.NumField()})
	var got []recent.Issuance
	for n := 0; n < len(all); n += 2 {
		got = append(got, all[n])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-added +remembered):\n%s", diff)
	}
}

// other sets a value that issuance does not.
func other(t *testing.T, field reflect.Value) {
	t.Helper()
	switch value := field.Addr().Interface().(type) {
	case *string:
		*value = "other"
	case *bool:
		*value = true
	case *uint64:
		*value = 99
	case *uint32:
		*value = 99
	case *time.Time:
		*value = began.Add(time.Hour)
	case *time.Duration:
		*value = time.Hour
	case *recent.TraceID:
		*value = recent.TraceID{9}
	case *recent.SpanID:
		*value = recent.SpanID{9}
	case *[]string:
		*value = []string{"https://vault.azure.net/.default"}
	case *[]int:
		*value = []int{50076}
	case *[]recent.Step:
		*value = []recent.Step{{Number: 1, Name: "caller"}}
	default:
		t.Fatalf("no other %T", value)
	}
}

// A memory of one kind of issuance is small, and those that are alike to the last
// field but two leave nothing behind when they go.
func TestAlikeIssuancesTakeLittle(t *testing.T) {
	m := recent.New(began)
	fill := func(uniqueID string) int {
		for n := range recent.MaxIssuances {
			i := issuance(n)
			i.UniqueID = uniqueID
			m.Add(i)
		}
		return m.Held().Bytes
	}
	first := fill("one")
	if most := recent.MaxIssuances*32 + 1_000; first > most {
		t.Errorf("got %d bytes, want at most %d", first, most)
	}
	if again := fill("two"); again != first {
		t.Errorf("got %d bytes of others that are like them, want %d", again, first)
	}
}
