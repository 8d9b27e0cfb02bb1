package review

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"
	"unicode"
)

const (
	maxLine = 64 << 10 // the broker's own lines are below 10 KiB
	maxText = 256      // bytes of a name, a rule or a scope
)

// Lines says what became of the lines of the logs. Empty lines are not counted.
type Lines struct {
	Counted    int64 `json:"counted"`              // audit lines that the report is made of
	Older      int64 `json:"older"`                // audit lines from before Config.Since
	Newer      int64 `json:"newer,omitempty"`      // audit lines from Config.Until and after
	Unselected int64 `json:"unselected,omitempty"` // audit lines of other agents or users than Config's
	// Hashed and Unhashed are audit lines of which it cannot be told whether they are
	// of Config's user: they have a hash and it is none, or it is one and they have none.
	Hashed     int64 `json:"hashed,omitempty"`
	Unhashed   int64 `json:"unhashed,omitempty"`
	Other      int64 `json:"other"`      // JSON that is no audit line, such as the broker's own log
	Unreadable int64 `json:"unreadable"` // torn, too long or no JSON
	// OCSF are audit lines in that format: a review reads the native one.
	OCSF int64 `json:"ocsf,omitempty"`
}

// None reports whether no audit line was read at all, of whatever time, agent or
// user.
func (l Lines) None() bool { return l.Counted+l.Older+l.Newer+l.Unselected+l.Hashed+l.Unhashed == 0 }

// record is what a review reads of an audit line. What else the line holds is
// passed over.
type record struct {
	Time         time.Time `json:"time"`
	Type         string    `json:"type"`
	Agent        string    `json:"agent"`
	Owner        string    `json:"owner"`
	PeerNetwork  string    `json:"peer_network"`
	PeerSocket   string    `json:"peer_socket"`
	PeerUID      *uint32   `json:"peer_uid"`
	Grant        string    `json:"grant"`
	Identity     string    `json:"identity"`
	Member       string    `json:"identity_member"`
	Scopes       []string  `json:"scopes"`
	OnBehalfOf   bool      `json:"on_behalf_of"`
	UserTenant   string    `json:"user_tenant_id"`
	UserObjectID string    `json:"user_object_id"`
	UserHash     string    `json:"user_hash"`
	Decision     string    `json:"decision"`
	Reason       string    `json:"reason"`
	Rule         string    `json:"rule"`
	Audited      bool      `json:"audited"`
	EntraError   string    `json:"entra_error"`
	EntraCodes   []int     `json:"entra_error_codes"`
}

// The types of lines that the broker writes to its audit log.
const (
	audit = "audit"
	chain = "audit_chain"
)

// inspection is the grant of those who wanted to know what a user's token says,
// and got none.
const inspection = "inspection"

// The decisions of an audit line.
const (
	allowed = "allow"
	denied  = "deny"
	failed  = "error"
)

// Read counts the lines of one log. Lines that are not whole are counted as
// unreadable and are no error; the error is the reader's.
func (r *Review) Read(log io.Reader) error {
	lines := bufio.NewReaderSize(log, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			r.lines.Unreadable++
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = lines.ReadSlice('\n')
			}
			line = nil
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			r.line(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// line counts one line that is not empty.
func (r *Review) line(line []byte) {
	var rec record
	switch err := json.Unmarshal(line, &rec); {
	case err != nil || line[0] != '{':
		r.foreign(line)
	case rec.Type == chain: // a record of the chain's own
	case rec.Type != audit || rec.Decision != allowed && rec.Decision != denied && rec.Decision != failed:
		r.lines.Other++
	case rec.Time.IsZero():
		r.lines.Unreadable++
	case rec.Time.Before(r.cfg.Since):
		r.lines.Older++
	case !r.cfg.Until.IsZero() && !rec.Time.Before(r.cfg.Until):
		r.lines.Newer++
	case r.cfg.Agent != "" && r.cfg.Agent != rec.Agent:
		r.lines.Unselected++
	case r.cfg.User == "" || r.cfg.isUser(&rec):
		r.lines.Counted++
		rec.clean()
		r.count(&rec)
	case rec.UserHash != "" && r.cfg.UserHash == "" && !isHash(r.cfg.User):
		r.lines.Hashed++
	case rec.UserObjectID != "" && isHash(r.cfg.User):
		r.lines.Unhashed++
	default:
		r.lines.Unselected++
	}
}

// foreign counts a line that is not of the native form. In OCSF the time is a
// number, and the native line stands under unmapped.
func (r *Review) foreign(line []byte) {
	var event struct {
		Unmapped struct {
			Type string `json:"type"`
		} `json:"unmapped"`
	}
	switch err := json.Unmarshal(line, &event); {
	case err == nil && event.Unmapped.Type == audit:
		r.lines.OCSF++
	case err == nil && event.Unmapped.Type == chain:
	default:
		r.lines.Unreadable++
	}
}

// isUser reports whether a line is about the user that is asked about, who is
// known by object id, by tenant and object id, or by the hash of the two where the
// log has that.
func (c *Config) isUser(rec *record) bool {
	if rec.UserHash != "" {
		return strings.EqualFold(rec.UserHash, c.User) || strings.EqualFold(rec.UserHash, c.UserHash)
	}
	return rec.UserObjectID != "" && (strings.EqualFold(rec.UserObjectID, c.User) || strings.EqualFold(rec.UserTenant+"/"+rec.UserObjectID, c.User))
}

// isHash reports whether text is what stands for a user in logs that hash them.
func isHash(text string) bool {
	sum, err := hex.DecodeString(text)
	return err == nil && len(sum) == sha256.Size
}

// clean makes the texts fit to be printed and kept: a log may have been written
// by anybody.
func (rec *record) clean() {
	for _, text := range []*string{&rec.Agent, &rec.Owner, &rec.PeerNetwork, &rec.PeerSocket, &rec.Identity, &rec.Member,
		&rec.UserTenant, &rec.UserObjectID, &rec.UserHash, &rec.Reason, &rec.Rule, &rec.EntraError} {
		*text = clean(*text)
	}
	for i := range rec.Scopes {
		rec.Scopes[i] = clean(rec.Scopes[i])
	}
}

func clean(text string) string {
	if len(text) <= maxText && !strings.ContainsFunc(text, unprintable) {
		return text
	}
	text = strings.Map(func(c rune) rune {
		if unprintable(c) {
			return '?'
		}
		return c
	}, text)
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

func unprintable(c rune) bool { return !unicode.IsPrint(c) }
