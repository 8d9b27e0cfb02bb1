package issuance

import (
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// appendTime appends t in UTC, to the microsecond. Package time has a fast way
// for RFC 3339, but with no fixed number of digits behind the second.
func appendTime(b []byte, t time.Time) []byte {
	b = t.UTC().AppendFormat(b, time.RFC3339)
	b[len(b)-1] = '.'
	micro := t.Nanosecond() / 1000
	for unit := 100_000; unit > 0; unit /= 10 {
		b = append(b, '0'+byte(micro/unit%10))
	}
	return append(b, 'Z')
}

var events = map[Decision]string{Allow: "token.issued", Deny: "token.denied", Fail: "token.failed"}

// inspected is the event of an inspection that told what the token says.
const inspected = "token.inspected"

func (r *Record) event() string {
	if r.Inspection && r.Decision == Allow {
		return inspected
	}
	return events[r.Decision]
}

// appendLine appends the record as one JSON object and a newline.
func (r *Record) appendLine(b []byte, end time.Time, span trace.SpanContext) []byte {
	b = append(b, `{"time":"`...)
	b = appendTime(b, r.Start)
	b = append(b, `","type":"audit"`...)
	b = appendField(b, "event", r.event())
	b = appendField(b, "issuance_id", r.ID)
	if span.IsValid() {
		traceID, spanID := span.TraceID(), span.SpanID()
		b = hex.AppendEncode(append(b, `,"trace_id":"`...), traceID[:])
		if spanID != r.above.SpanID() { // else nothing is traced here, and it is the caller's own
			b = hex.AppendEncode(append(b, `","span_id":"`...), spanID[:])
		}
		b = append(b, '"')
	}
	b = appendField(b, "agent", r.Agent)
	b = appendField(b, "owner", r.Owner)
	b = appendField(b, "peer_network", r.PeerNet)
	b = appendField(b, "peer_socket", r.PeerSocket)
	if r.PeerKnown {
		b = append(b, `,"peer_uid":`...)
		b = strconv.AppendUint(b, uint64(r.PeerUID), 10)
	}
	b = appendField(b, "said_agent_id", r.SaidAgentID)
	b = appendField(b, "said_agent_name", r.SaidAgentName)
	b = appendField(b, "said_conversation_id", r.SaidConversation)
	b = appendField(b, "door", r.Door)
	b = appendField(b, "grant", r.Grant)
	b = appendField(b, "identity", r.Identity)
	b = appendField(b, "identity_member", r.Member)
	b = appendField(b, "tenant_id", r.Tenant)
	b = appendField(b, "client_id", r.ClientID)
	if len(r.Scopes) > 0 {
		b = append(b, `,"scopes":[`...)
		for i, scope := range r.Scopes {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, scope)
		}
		b = append(b, ']')
	}
	b = appendField(b, "api", r.API)
	b = appendFlag(b, "on_behalf_of", r.OnBehalfOf)
	b = appendField(b, "user_tenant_id", r.UserTenant)
	b = appendField(b, "user_object_id", r.UserObjectID)
	b = appendField(b, "user_hash", r.UserHash)
	b = appendField(b, "user_client_id", r.UserClient)
	b = appendFlag(b, "session", r.Session)
	b = appendField(b, "decision", string(r.Decision))
	b = appendField(b, "reason", r.Reason)
	b = appendField(b, "rule", r.Rule)
	b = appendFlag(b, "audited", r.Audited)
	b = appendFlag(b, "first_use", r.FirstUse)
	b = appendField(b, "policy_revision", r.Revision)
	b = appendField(b, "cache", string(r.Cache))
	b = appendField(b, "token_kind", r.TokenKind)
	if !r.ExpiresAt.IsZero() {
		b = append(b, `,"expires_at":"`...)
		b = r.ExpiresAt.UTC().AppendFormat(b, time.RFC3339)
		b = append(b, '"')
	}
	b = appendField(b, "uti", r.UniqueID)
	b = appendField(b, "entra_correlation_id", r.CorrelationID)
	b = appendField(b, "entra_request_id", r.RequestID)
	b = appendField(b, "entra_error", r.EntraError)
	if len(r.EntraCodes) > 0 {
		b = append(b, `,"entra_error_codes":[`...)
		for i, code := range r.EntraCodes {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(code), 10)
		}
		b = append(b, ']')
	}
	b = append(b, `,"duration_us":`...)
	b = strconv.AppendInt(b, max(0, end.Sub(r.Start).Microseconds()), 10)
	return append(b, '}', '\n')
}

// appendFlag appends what is true, and nothing else.
func appendFlag(b []byte, name string, value bool) []byte {
	if !value {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, `":true`...)
}

func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendString(b, value)
}

// verbatim are the bytes that JSON writes as they are.
var verbatim = func() (is [256]bool) {
	for c := ' '; c <= '~'; c++ {
		is[c] = c != '"' && c != '\\'
	}
	return is
}()

// appendString appends s as JSON. Nearly all values are plain ASCII.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if !verbatim[s[i]] {
			quoted, err := json.Marshal(s)
			if err != nil { // a string always encodes
				return append(b, `"(unprintable)"`...)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
