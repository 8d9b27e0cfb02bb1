package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/managedidentity"
	"github.com/credfree/credfree/exchange/usertoken"
	"github.com/credfree/credfree/exchange/workload"
)

// ruleSet is a policy with what this program has made for it.
type ruleSet struct {
	broker.Rules
	sources  map[string]*watched // by their names in the policy
	audience string              // that workload tokens have to be meant for
	since    time.Time           // when it was made, which is when it was put in force
}

// makeRules makes what the policy names. What it has in common with before, nil
// for none, is taken over: what was learnt of Entra's troubles and of its keys
// outlives a change of the agents.
func (s *service) makeRules(p *policy.Policy, before *ruleSet) (*ruleSet, error) {
	r := &ruleSet{Rules: broker.Rules{Policy: p, Keys: peer.NewKeys(p.KeyFiles()), Sockets: s.socketsOf(p)}, sources: map[string]*watched{}, since: time.Now()}
	if before != nil && sameCloud(before.Policy.Cloud, p.Cloud) {
		r.Exchange, r.Users, r.Graph, r.audience = before.Exchange, before.Users, before.Graph, before.audience
	} else if err := s.connect(r); err != nil {
		return nil, err
	}
	if err := s.hideUsers(r); err != nil {
		return nil, errors.Join(err, r.close(before))
	}
	if err := r.makeSources(before); err != nil {
		return nil, errors.Join(err, r.close(before))
	}
	return r, nil
}

// makeSources makes what the policy names and before has not.
func (r *ruleSet) makeSources(before *ruleSet) error {
	r.Sources = make(map[string]workload.Source, len(r.Policy.Sources))
	for _, name := range slices.Sorted(maps.Keys(r.Policy.Sources)) {
		source := r.Policy.Sources[name]
		kept := r.kept(name, before)
		if kept == nil {
			made, err := newSource(source, r.audience)
			if err != nil {
				return fmt.Errorf("source %s: %w", name, err)
			}
			kept = &watched{Source: made, audience: r.audience, fresh: source.File != nil}
		}
		r.sources[name], r.Sources[name] = kept, kept
	}
	return nil
}

// kept is the source of that name from before, if another would be made of the same:
// exchanges may be under way with it, and its connection be open. Else nil.
func (r *ruleSet) kept(name string, before *ruleSet) *watched {
	if before == nil || before.audience != r.audience || !reflect.DeepEqual(before.Policy.Sources[name], r.Policy.Sources[name]) {
		return nil
	}
	return before.sources[name]
}

// hideUsers keeps users' ids out of what is recorded, where the policy says so.
func (s *service) hideUsers(r *ruleSet) error {
	recording := r.Policy.Recording
	if !recording.HashedUsers {
		return nil
	}
	key := s.usersKey
	if recording.UsersKeyFile != "" {
		var err error
		if key, err = readKeyFile(recording.UsersKeyFile); err != nil {
			return err
		}
	}
	r.Pseudonyms = issuance.NewPseudonyms(key)
	return nil
}

func sameCloud(a, b policy.Cloud) bool {
	return a.Authority == b.Authority && a.CAFile == b.CAFile && a.Audience == b.Audience
}

// connect makes the clients of the policy's cloud.
func (s *service) connect(r *ruleSet) error {
	cloud, telemetry := r.Policy.Cloud, s.cfg.telemetry
	transport, err := entraTransport(cloud)
	if err != nil {
		return err
	}
	tokens, err := identityBinding(os.Getenv, cloud.Authority, transport)
	if err != nil {
		return err
	}
	// The path of a question to Graph names a user, which no HTTP span is to have.
	r.Graph, r.audience = transport, cloud.Audience
	if tokens != transport { // the platform mounts tokens for its proxy
		r.audience = bindingAudience
	}
	// The machine's endpoint is its own, and behind no proxy.
	machine, err := managedidentity.New(managedidentity.Config{Transport: &http.Transport{}})
	if err != nil {
		return err
	}
	r.Exchange, err = exchange.New(exchange.Config{
		Authority: cloud.Authority, Audience: r.audience, Transport: telemetry.instrument(tokens), Tracer: telemetry.tracer(), Meter: telemetry.meter(),
		ManagedIdentity: machine, Legs: broker.Legs(s.cache, s.recorder),
	})
	if err != nil {
		return err
	}
	r.Users, err = usertoken.New(usertoken.Config{Authority: cloud.Authority, Transport: telemetry.instrument(transport), Tracer: telemetry.tracer()})
	return err
}

// close ends what these rules have and others, nil for none, have not.
func (r *ruleSet) close(others *ruleSet) error {
	if others == nil || others.Users != r.Users {
		r.Users.Close()
	}
	var problems []error
	for name, source := range r.sources {
		if others != nil && others.sources[name] == source {
			continue
		}
		if closer, ok := source.Source.(io.Closer); ok {
			problems = append(problems, closer.Close())
		}
	}
	return errors.Join(problems...)
}

// socketsOf maps the paths of the policy's sockets to their names in it.
func (s *service) socketsOf(p *policy.Policy) map[string]string {
	sockets := map[string]string{}
	for _, name := range p.Sockets() {
		sockets[s.socketPath(name)] = name
	}
	return sockets
}

func (s *service) socketPath(name string) string {
	return socketPath(s.cfg.socketDir, s.cfg.socketFolders, name)
}

// socketPath is where a socket of the policy is, below dir and, with folders, in
// a folder of its own.
func socketPath(dir string, folders bool, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	if folders {
		// One more folder: everybody may write to a volume, and ListenUnix uses none
		// like that.
		return filepath.Join(dir, strings.TrimSuffix(name, ".sock"), "socket", name)
	}
	return filepath.Join(dir, name)
}

// openSockets listens on those sockets that are new. When one fails, none of
// the new ones stays.
func (s *service) openSockets(sockets map[string]string) error {
	opened := map[string]net.Listener{}
	for _, path := range slices.Sorted(maps.Keys(sockets)) { // so that what fails is the same each time
		if s.sockets[path] != nil {
			continue
		}
		l, err := peer.ListenUnix(path)
		if err != nil {
			for _, l := range opened {
				err = errors.Join(err, l.Close())
			}
			return err
		}
		opened[path] = l
	}
	maps.Copy(s.sockets, opened)
	if s.fatal != nil { // else serve accepts
		for _, l := range opened {
			s.accept(l, s.agents)
		}
	}
	return nil
}

// closeSockets stops listening where the rules do not say so any more.
func (s *service) closeSockets(sockets map[string]string) error {
	var problems []error
	for path, l := range s.sockets {
		if _, ok := sockets[path]; !ok {
			problems = append(problems, l.Close())
			delete(s.sockets, path)
		}
	}
	return errors.Join(problems...)
}
