package localapi

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/credfree/credfree/broker"
)

// Bounds of the baggage that is read. W3C Baggage lets a sender have 8192 bytes
// and 64 members; nobody else's members are of interest.
const (
	maxBaggageBytes   = 8192
	maxBaggageMembers = 64
	maxBaggageValue   = 384 // encoded: three times what is recorded
)

// said reads what the caller says of itself in its baggage (W3C Baggage): three
// keys, and no others. OpenTelemetry's own propagator is not used: it parses and
// keeps everything, and everything would travel on. What makes no sense, is too
// much, or is said twice was not said.
func said(r *http.Request) broker.Said {
	headers, ok := r.Header["Baggage"]
	if !ok {
		return broker.Said{}
	}
	size, members := 0, 0
	var read broker.Said
	fields := map[string]*string{"gen_ai.agent.id": &read.AgentID, "gen_ai.agent.name": &read.AgentName, "gen_ai.conversation.id": &read.Conversation}
	for _, header := range headers {
		if size += len(header); size > maxBaggageBytes {
			return broker.Said{}
		}
		for member := range strings.SplitSeq(header, ",") {
			if members++; members > maxBaggageMembers {
				return broker.Said{}
			}
			member, _, _ = strings.Cut(member, ";") // the rest are properties
			key, encoded, found := strings.Cut(member, "=")
			field := fields[strings.TrimSpace(key)]
			if !found || field == nil {
				continue
			}
			value, err := url.PathUnescape(strings.TrimSpace(encoded))
			if err != nil || len(encoded) > maxBaggageValue || *field != "" {
				return broker.Said{}
			}
			*field = value
		}
	}
	return read
}
