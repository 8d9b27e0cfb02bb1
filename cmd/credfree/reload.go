package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/credfree/credfree/broker/policy"
)

// pollInterval is how often the policy file is looked at. A change counts once
// it has been the same for two looks, so that a file that is being written is not
// taken for a shorter one. Kubernetes exchanges a mounted ConfigMap by a symbolic
// link, which no watch on the file itself would see.
const pollInterval = time.Second

// reloadState is how the last attempt to put a policy in force went.
type reloadState struct {
	failed error            // why the file on the disk is not in force; nil when it is
	hint   string           // what to do about that
	since  time.Time        // when what is in force came into it
	at     time.Time        // of the last attempt; zero: none
	count  map[string]int64 // of attempts, by outcome
}

// Outcomes of an attempt.
const (
	reloadApplied = "applied"
	reloadRefused = "refused"
)

// watchPolicy puts the policy file in force whenever it or its ceiling changes,
// and at once on SIGHUP, until ctx ends. What they say while they are not valid
// changes nothing.
func (s *service) watchPolicy(ctx context.Context, w *policyWatch) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	daily := time.NewTicker(24 * time.Hour)
	defer daily.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-daily.C:
			s.warnOfExpiry()
		case <-hangup:
			w.policy.settled, w.ceiling.settled = true, true
		case <-ticker.C:
		}
		w.look(s)
	}
}

// fileWatch is what is known of a file that may change.
type fileWatch struct {
	path    string
	applied []byte // last content that was tried
	seen    []byte // content at the last look, when that was another
	unread  string // why it could not be read at the last look; "" when it could
	settled bool   // do not wait for a second look
	waiting bool   // applied is valid and could not be put in force: it is tried again
	why     error
}

// look returns the content that is to be tried, if there is any, and an error when
// the file cannot be read, once for each reason. A pipe has said what it had to say at the start,
// and opening it again could take for ever.
func (w *fileWatch) look() (data []byte, err error) {
	if info, err := os.Stat(w.path); err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) != 0 {
		return nil, nil
	}
	at := w.settled
	w.settled = false
	data, err = readDocument(w.path)
	if err != nil {
		again := w.unread == err.Error() && !at
		w.unread, w.seen, w.waiting = err.Error(), nil, false
		if again {
			err = nil
		}
		return nil, err
	}
	same := bytes.Equal(data, w.applied)
	switch {
	case same && w.unread == "" && !at:
		if w.seen = nil; w.waiting {
			return data, nil
		}
		return nil, nil
	case !at && !same && (w.seen == nil || !bytes.Equal(data, w.seen)):
		w.seen = data
		return nil, nil
	}
	w.applied, w.seen, w.unread, w.waiting = data, nil, "", false
	return data, nil
}

// waits notes that what look returned could not be put in force, for a key file, say,
// that is not there yet, and reports whether that was so before.
func (w *fileWatch) waits(why error) (again bool) {
	again = w.waiting && w.why.Error() == why.Error()
	w.waiting, w.why = true, why
	return again
}

// policyWatch is a policy file, with the ceiling that it is under.
type policyWatch struct {
	policy  fileWatch
	ceiling fileWatch      // path "": none
	options policy.Options // the ceiling is the last valid one
	inForce []byte         // content of the policy that is in force
}

func (w *policyWatch) look(s *service) {
	w.lookAtCeiling(s)
	if w.policy.path == "" { // the environment does not change
		return
	}
	data, err := w.policy.look()
	if err != nil {
		s.reloadFailed(err, unreadableHint(err)+": until then the last one stays in force")
		return
	}
	if data == nil {
		return
	}
	p, err := w.parse(data)
	if err != nil {
		w.policy.waiting = false
		s.reloadFailed(err, "mend the policy file: until then the last one stays in force; credfree check --config "+w.policy.path)
		return
	}
	before := s.inForce().Policy.Revision
	if err := s.use(p); err != nil {
		if !w.policy.waits(err) {
			s.reloadFailed(err, "mend what it needs: it is tried again each second, and until then the last one stays in force")
		}
		return
	}
	w.policy.waiting, w.inForce = false, data
	s.reloadApplied(before)
}

// unreadableHint says what to do about a policy file that was read before.
func unreadableHint(err error) string {
	if errors.Is(err, os.ErrPermission) {
		return policyHint(err)
	}
	return "put the policy file back"
}

func (w *policyWatch) parse(data []byte) (*policy.Policy, error) {
	return policy.ParseWith(cmp.Or(w.policy.path, environmentName), data, w.options)
}

// lookAtCeiling puts the policy that is in force under a ceiling that has
// changed. While the ceiling is not valid, its last valid content holds.
func (w *policyWatch) lookAtCeiling(s *service) {
	if w.ceiling.path == "" {
		return
	}
	data, err := w.ceiling.look()
	if err == nil && data == nil {
		return
	}
	var ceiling *policy.Ceiling
	if err == nil {
		ceiling, err = policy.ParseCeiling(w.ceiling.path, data)
	}
	if err == nil {
		if err = w.lower(s, ceiling); err != nil && w.ceiling.waits(err) {
			return
		}
		w.ceiling.waiting = err != nil
	}
	s.ceilingRead(w.options.Ceiling, err)
}

// lower puts the policy that is in force under a ceiling, or leaves both as they are.
func (w *policyWatch) lower(s *service, ceiling *policy.Ceiling) error {
	before := w.options.Ceiling
	w.options.Ceiling = ceiling
	p, err := w.parse(w.inForce)
	if err == nil {
		err = s.use(p)
	}
	if err != nil {
		w.options.Ceiling = before
	}
	return err
}

// ceilingRead notes how it went with the ceiling's file.
func (s *service) ceilingRead(inForce *policy.Ceiling, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ceilingFailed = err
	if err != nil {
		everyTime(s.cfg.log).Error("the ceiling is not in force", "err", err.Error(), "in_force", inForce.Revision,
			"hint", "mend it: until then the last valid one holds, and without any nobody gets a token")
		return
	}
	s.cfg.log.Info("ceiling in force", "ceiling", inForce.Revision)
}

// use puts a policy in force, as a whole or not at all.
func (s *service) use(p *policy.Policy) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.rules
	rules, err := s.makeRules(p, before)
	if err != nil {
		return err
	}
	// First the doors that are new, which lead nowhere yet; last those that are
	// gone, which lead nowhere any more.
	if err := s.openSockets(rules.Sockets); err != nil {
		return errors.Join(err, rules.close(before))
	}
	if err := s.broker.Use(rules.Rules); err != nil {
		return errors.Join(err, s.closeSockets(before.Sockets), rules.close(before))
	}
	s.rules = rules
	err = errors.Join(s.closeSockets(rules.Sockets), before.close(rules))
	if err != nil {
		s.cfg.log.Warn("something of the old policy could not be closed", "err", err)
	}
	for _, warning := range p.Warnings {
		s.cfg.log.Warn("policy: "+warning.String(), "hint", warning.Hint)
	}
	return nil
}

// reloadApplied notes that the policy file is in force, in the place of a revision.
func (s *service) reloadApplied(before string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reload.done(nil)
	s.cfg.log.Info("policy in force", "policy", s.rules.Policy.Revision, "before", before, "agents", len(s.rules.Policy.Agents))
}

func (s *service) reloadFailed(err error, hint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reload.done(err)
	s.reload.hint = hint
	everyTime(s.cfg.log).Error("the policy file is not in force", "err", err.Error(), "hint", hint, "in_force", s.rules.Policy.Revision)
}

func (r *reloadState) done(err error) {
	if r.count == nil {
		r.count = map[string]int64{}
	}
	outcome := reloadApplied
	if err != nil {
		outcome = reloadRefused
	}
	r.count[outcome]++
	r.failed, r.at = err, time.Now()
	if err == nil {
		r.since = r.at
	}
}

// expirySoon is how early agents that expire are named.
const expirySoon = 30 * 24 * time.Hour

// warnOfExpiry names the agents that have expired, or soon will.
func (s *service) warnOfExpiry() {
	now := time.Now()
	for _, agent := range s.inForce().Policy.Expiring(now, expirySoon) {
		message := "an agent expires soon"
		if !now.Before(agent.Expires) {
			message = "an agent has expired: it gets no tokens"
		}
		s.cfg.log.Warn(message, "agent", agent.Name, "owner", agent.Owner, "last_day", agent.Expires.AddDate(0, 0, -1).Format(time.DateOnly),
			"hint", "ask its owner whether it is still needed, and change expires")
	}
}
