package usertoken

import (
	"context"
	"crypto/rsa"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

const (
	// Keys older than freshFor are fetched again, in nobody's way; older than trustFor,
	// because that has failed since, they are not used any more.
	freshFor = time.Hour
	trustFor = 24 * time.Hour

	// How often the keys of one tenant are fetched at most: a few times at once, for
	// several key ids and for hiccups of the network, then steadily.
	fetchBurst   = 5
	fetchEvery   = 10 * time.Second
	fetchTimeout = 10 * time.Second

	// For how long, and for how many key ids, it is remembered that the tenant does not
	// publish them. Longer than fetchEvery, so that one bad token that comes again and
	// again leaves fetches for others.
	absentFor = 30 * time.Second
	maxAbsent = 256

	// maxTenants bounds the memory of a Verifier; only expected tenants get this far.
	maxTenants = 1024
)

// keySet is what is known of the keys of one tenant. Verifier.mu guards it.
type keySet struct {
	tenant  string
	keys    map[string]*rsa.PublicKey // by key id; replaced, never changed
	fetched time.Time                 // when the fetch that brought keys began
	failure *Error                    // of the last fetch; nil when that brought keys
	absent  *simplelru.LRU[string, time.Time]
	budget  *rate.Limiter
	flight  *flight // the fetch under way, if there is one
}

// flight is one fetch of a tenant's keys. The fields after done are final once done
// is closed.
type flight struct {
	cancel  context.CancelFunc
	done    chan struct{}
	keys    map[string]*rsa.PublicKey
	failure *Error
}

// key returns the key with this id that the tenant publishes. A key that is at hand is
// returned at once. For another one the tenant is asked, if the budget allows it; all who
// need an answer share one, and each waits no longer than its ctx.
func (v *Verifier) key(ctx context.Context, tenant, id string, cause func() context.Context) (*rsa.PublicKey, *Error) {
	key, f, failure := v.lookUp(ctx, tenant, id, cause)
	if f == nil {
		return key, failure
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, &Error{Problem: KeysUnavailable, Message: "the wait for the keys of tenant " + tenant + " was given up", Err: ctx.Err(),
			Hint: "ask again with more time; the keys are still being fetched"}
	}
	if f.failure != nil {
		return nil, f.failure
	}
	if key, ok := f.keys[id]; ok {
		return key, nil
	}
	v.setAbsent(tenant, id)
	return nil, unknownKey(tenant)
}

// lookUp returns a key, a flight to wait for, or why there is neither.
func (v *Verifier) lookUp(ctx context.Context, tenant, id string, cause func() context.Context) (*rsa.PublicKey, *flight, *Error) {
	now := v.cfg.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, nil, unavailable(tenant, "the broker is shutting down", "ask again when it is back", nil)
	}
	s := v.keySet(tenant)
	// A clock set back makes keys stale too, and so does a machine that sleeps, whose
	// monotonic clock stands still.
	age := max(now.Sub(s.fetched).Abs(), now.Round(0).Sub(s.fetched.Round(0)).Abs())
	if s.keys != nil && age < trustFor {
		if key, ok := s.keys[id]; ok {
			if age >= freshFor {
				v.start(ctx, s, now, cause)
			}
			return key, nil, nil
		}
		if until, ok := s.absent.Get(id); ok && now.Before(until) {
			return nil, nil, unknownKey(tenant)
		}
	}
	if f := v.start(ctx, s, now, cause); f != nil {
		return nil, f, nil
	}
	// The budget is spent, so the last fetch is seconds old.
	if s.failure == nil {
		return nil, nil, unknownKey(tenant)
	}
	return nil, nil, s.failure
}

// keySet finds or makes the tenant's entry. It is called with mu held.
func (v *Verifier) keySet(tenant string) *keySet {
	if s, ok := v.tenants.Get(tenant); ok {
		return s
	}
	absent, err := simplelru.NewLRU[string, time.Time](maxAbsent, nil)
	if err != nil {
		panic(err) // for a size that is not positive, which this one is
	}
	s := &keySet{tenant: tenant, absent: absent, budget: rate.NewLimiter(rate.Every(fetchEvery), fetchBurst)}
	v.tenants.Add(tenant, s)
	return s
}

// start returns the flight under way, or begins one if the budget allows it; else nil.
// It is called with mu held and the Verifier open.
func (v *Verifier) start(ctx context.Context, s *keySet, now time.Time, cause func() context.Context) *flight {
	if s.flight != nil || !s.budget.AllowN(now, 1) {
		return s.flight
	}
	if cause != nil {
		ctx = cause()
	}
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	f := &flight{cancel: cancel, done: make(chan struct{})}
	s.flight = f
	v.running[f] = struct{}{}
	v.idle.Add(1)
	go v.run(detached, s, f, now)
	return f
}

// run owns the goroutine of one flight: it fetches, books the outcome and tells those
// who wait.
func (v *Verifier) run(ctx context.Context, s *keySet, f *flight, began time.Time) {
	defer v.idle.Done()
	defer f.cancel()
	// A trace of its own, which many may be waiting for, linked to that of the first.
	ctx, span := v.cfg.Tracer.Start(ctx, "user.keys", trace.WithNewRoot(), trace.WithLinks(linkTo(ctx)...),
		trace.WithAttributes(attribute.String("credfree.entra.tenant_id", s.tenant)))
	defer span.End()
	f.keys, f.failure = v.fetch(ctx, s.tenant)
	if f.failure != nil {
		span.SetAttributes(attribute.String("error.type", string(f.failure.Problem)))
		span.SetStatus(codes.Error, string(f.failure.Problem))
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.running, f)
	s.flight, s.failure = nil, f.failure
	if f.failure == nil {
		s.keys, s.fetched = f.keys, began
		v.fetches.Done++
	} else {
		v.fetches.Failed++
	}
	close(f.done)
}

func linkTo(ctx context.Context) []trace.Link {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return []trace.Link{trace.LinkFromContext(ctx)}
	}
	return nil
}

// Fetches counts fetches of keys that have ended.
type Fetches struct{ Done, Failed int64 }

// Fetches returns the counts since the Verifier was made.
func (v *Verifier) Fetches() Fetches {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.fetches
}

func (v *Verifier) setAbsent(tenant, id string) {
	until := v.cfg.Now().Add(absentFor)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keySet(tenant).absent.Add(id, until)
}

func unknownKey(tenant string) *Error {
	return &Error{Problem: UnknownKey, Message: "the user token names a key that tenant " + tenant + " does not publish",
		Hint: "pass an access token that Entra issued; one for an application with a signing key of its own (SAML) cannot be taken"}
}
