package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/workload"
)

// Config is what New needs. All fields are required unless they say otherwise.
type Config struct {
	Policy   *policy.Policy
	Sources  map[string]workload.Source // by their names in the policy
	Exchange *exchange.Client
	Cache    *cache.Cache[exchange.Token]
	Recorder *issuance.Recorder
	// Keys are the key files of the policy's callers. Nil when it names none.
	Keys *peer.Keys
	// Sockets maps the path of each unix socket that is listened on to its
	// name in the policy. Nil when there are none.
	Sockets map[string]string
	// Peer says who is at the other end of the connection that a context
	// carries. Nil means peer.FromContext, the kernel's word.
	Peer func(context.Context) (peer.Peer, error)
	// Now is the wall clock. Nil means time.Now.
	Now func() time.Time
}

// Broker issues tokens. It is safe for concurrent use.
type Broker struct {
	cfg          Config
	applications map[string]exchange.Application // by identity name
	last         atomic.Pointer[lastExchange]
}

type lastExchange struct {
	at  time.Time
	err error
}

// New returns a Broker or all problems of cfg, joined.
func New(cfg Config) (*Broker, error) {
	var problems []error
	if cfg.Policy == nil || cfg.Exchange == nil || cfg.Cache == nil || cfg.Recorder == nil {
		problems = append(problems, errors.New("a broker needs a policy, an exchange client, a cache and a recorder"))
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Peer == nil {
		cfg.Peer = peer.FromContext
	}
	b := &Broker{cfg: cfg, applications: map[string]exchange.Application{}}
	if cfg.Policy != nil {
		if cfg.Keys == nil && len(cfg.Policy.KeyFiles()) > 0 {
			problems = append(problems, errors.New("the policy names key files, and there are no keys"))
		}
		for name, identity := range cfg.Policy.Identities {
			source, ok := cfg.Sources[identity.Application.Source]
			if !ok {
				problems = append(problems, fmt.Errorf("identity %s has no workload source", name))
			}
			b.applications[name] = exchange.Application{Tenant: cfg.Policy.Tenant, ClientID: identity.Application.ClientID, Source: source}
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return b, nil
}

// LastExchange returns when an exchange last ended, and how: the zero time
// before the first.
func (b *Broker) LastExchange() (time.Time, error) {
	last := b.last.Load()
	if last == nil {
		return time.Time{}, nil
	}
	return last.at, last.err
}

// fetch is the exchange behind a cache entry. Whoever waits for it, and
// whether anybody still does, it runs to its own end.
func (b *Broker) fetch(app exchange.Application, req exchange.Request) cache.Fetch[exchange.Token] {
	return func(ctx context.Context) (cache.Entry[exchange.Token], error) {
		token, err := b.cfg.Exchange.AppToken(ctx, app, req)
		b.last.Store(&lastExchange{at: b.cfg.Now(), err: err})
		return cache.Entry[exchange.Token]{
			Value: token, Lifetime: token.Lifetime, RefreshIn: token.RefreshIn, Bytes: token.Len() + tokenOverhead,
		}, err
	}
}

// refresh is a fetch that nobody waits for. It has a trace of its own, linked
// to the issuance that found the token to be ageing.
func (b *Broker) refresh(agent string, fetch cache.Fetch[exchange.Token]) cache.Fetch[exchange.Token] {
	return func(ctx context.Context) (cache.Entry[exchange.Token], error) {
		ctx, end := b.cfg.Recorder.Refresh(ctx, agent)
		entry, err := fetch(ctx)
		var failure *exchange.Error
		switch {
		case err == nil:
			end("")
		case errors.As(err, &failure):
			end(string(failure.Reason))
		default:
			end(ReasonInternal)
		}
		return entry, err
	}
}

// tokenOverhead is what an exchange.Token takes beside its text: the struct,
// its ids and a few roles or scopes.
const tokenOverhead = 512
