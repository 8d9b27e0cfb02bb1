package cache

import (
	"crypto/sha256"
	"reflect"
	"testing"
	"time"
)

// variants returns, for every field of Key by name, keys that differ from k in that
// field alone. A field of a type it does not know is an error: a new field gets its
// variant before it is trusted.
func variants(t *testing.T, k Key) map[string][]Key {
	t.Helper()
	out := make(map[string][]Key)
	for i := range reflect.TypeFor[Key]().NumField() {
		name := reflect.TypeFor[Key]().Field(i).Name
		switch field := reflect.ValueOf(k).Field(i).Interface().(type) {
		case string:
			for _, text := range []string{"", field + "x", " " + field, field + " "} {
				other := k
				reflect.ValueOf(&other).Elem().Field(i).SetString(text)
				out[name] = append(out[name], other)
			}
		case [32]byte:
			for _, at := range []int{0, 15, 31} {
				other := k
				b := reflect.ValueOf(&other).Elem().Field(i).Index(at)
				b.SetUint(b.Uint() ^ 1)
				out[name] = append(out[name], other)
			}
		case uint64:
			other := k
			reflect.ValueOf(&other).Elem().Field(i).SetUint(field + 1)
			out[name] = append(out[name], other)
		default:
			t.Fatalf("Key.%s has a type without variants: %T", name, field)
		}
	}
	return out
}

func TestKeysThatDifferInOneFieldNeverShare(t *testing.T) {
	base := alice
	base.Claims, base.User, base.UserID = sha256.Sum256([]byte("claims")), sha256.Sum256([]byte("user")), "contoso/user"

	fields := variants(t, base)
	// Text moved across the border of two fields reads the same when joined.
	moved := base
	moved.Agent, moved.Identity = base.Agent+base.Identity, ""
	swapped := base
	swapped.Claims, swapped.User = base.User, base.Claims
	fields["Agent and Identity joined"] = []Key{moved}
	fields["Claims and User swapped"] = []Key{swapped}

	for name, others := range fields {
		t.Run(name, func(t *testing.T) {
			for _, other := range others {
				c := newCache(t, Config{})
				mustGet(t, c, base, brings("base", time.Hour))
				wantMiss(t, c, other)
				v, _, how := mustGet(t, c, other, brings("other", time.Hour))
				if v != "other" || how.Outcome != Miss {
					t.Errorf("Get(%+v) = %q, %+v, want a fetch of its own", other, v, how)
				}
				wantHit(t, c, base, "base")
				c.Purge(func(k Key) bool { return k == other })
				wantHit(t, c, base, "base")
				wantMiss(t, c, other)
			}
		})
	}
}
