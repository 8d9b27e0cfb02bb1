package issuance

import (
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// ocsfVersion is the version of the Open Cybersecurity Schema Framework whose
// names the lines use. Later ones have them too.
const ocsfVersion = "1.2.0"

// appendOCSF appends the record as an event of OCSF's class 3002,
// Authentication: a token is what a sign-in ends with, and Entra's own sign-ins,
// which the lines are joined with, are of that class. The activity is 99, other,
// because none of the class's own is the issuance of a token by a broker. All
// that the native line says is under unmapped, which comes last.
func (r *Record) appendOCSF(b []byte, end time.Time, span trace.SpanContext) []byte {
	b = append(b, `{"activity_id":99,"activity_name":"Token issuance","category_uid":3,"category_name":"Identity & Access Management",`+
		`"class_uid":3002,"class_name":"Authentication","type_uid":300299,"type_name":"Authentication: Other",`+
		`"auth_protocol_id":6,"auth_protocol":"OAUTH 2.0"`...)
	if r.Decision == Allow {
		b = append(b, `,"severity_id":1,"severity":"Informational","status_id":1,"status":"Success"`...)
	} else {
		b = append(b, `,"severity_id":2,"severity":"Low","status_id":2,"status":"Failure"`...)
	}
	b = appendField(b, "status_code", r.Reason)
	b = appendField(b, "status_detail", r.Rule)
	b = append(b, `,"time":`...)
	b = strconv.AppendInt(b, r.Start.UnixMilli(), 10)
	correlation := r.CorrelationID
	if correlation == "" && span.IsValid() {
		correlation = span.TraceID().String()
	}
	b = appendMetadata(b, r.ID, r.event(), correlation, r.Tenant)
	b = r.appendUser(b)
	b = r.appendActor(b)
	b = append(b, `,"service":{`...)
	b = appendFirst(b, "name", r.resource())
	b = append(b, '}')
	if r.UniqueID != "" || !r.ExpiresAt.IsZero() {
		b = append(b, `,"session":{`...)
		b = appendFirst(b, "uid", r.UniqueID)
		if !r.ExpiresAt.IsZero() {
			if r.UniqueID != "" {
				b = append(b, ',')
			}
			b = append(b, `"expiration_time":`...)
			b = strconv.AppendInt(b, r.ExpiresAt.UnixMilli(), 10)
		}
		b = append(b, '}')
	}
	b = append(b, `,"unmapped":`...)
	b = r.appendLine(b, end, span)
	return append(b[:len(b)-1], '}', '\n')
}

func appendMetadata(b []byte, id, event, correlation, tenant string) []byte {
	b = append(b, `,"metadata":{"version":"`+ocsfVersion+`","product":{"name":"credfree","vendor_name":"credfree"},"log_name":"audit"`...)
	b = appendField(b, "event_code", event)
	b = appendField(b, "uid", id)
	b = appendField(b, "correlation_uid", correlation)
	b = appendField(b, "tenant_uid", tenant)
	return append(b, '}')
}

// appendUser appends whom the token stands for: the user, or else the
// application, or somebody unknown.
func (r *Record) appendUser(b []byte) []byte {
	switch {
	case r.UserObjectID != "":
		b = append(b, `,"user":{"type_id":1,"type":"User"`...)
		b = appendField(b, "uid", r.UserObjectID)
		b = appendField(b, "domain", r.UserTenant)
	case r.UserHash != "":
		b = append(b, `,"user":{"type_id":1,"type":"User"`...)
		b = appendField(b, "uid", r.UserHash)
	case r.ClientID != "" || r.Identity != "":
		b = append(b, `,"user":{"type_id":99,"type":"Application"`...)
		b = appendField(b, "name", r.Identity)
		b = appendField(b, "uid", r.ClientID)
	default:
		b = append(b, `,"user":{"type_id":0,"type":"Unknown","name":"unknown"`...)
	}
	return append(b, '}')
}

// appendActor appends who asked: the agent, and the user it runs as here.
func (r *Record) appendActor(b []byte) []byte {
	if r.Agent == "" && !r.PeerKnown {
		return b
	}
	b = append(b, `,"actor":{`...)
	b = appendFirst(b, "app_name", r.Agent)
	if r.PeerKnown {
		if r.Agent != "" {
			b = append(b, ',')
		}
		b = append(b, `"user":{"type_id":99,"type":"Local process","uid":"`...)
		b = strconv.AppendUint(b, uint64(r.PeerUID), 10)
		b = append(b, '"', '}')
	}
	return append(b, '}')
}

// resource is what the token is for.
func (r *Record) resource() string {
	if r.API != "" {
		return r.API
	}
	if len(r.Scopes) > 0 {
		if at := strings.LastIndexByte(r.Scopes[0], '/'); at > 0 {
			return r.Scopes[0][:at]
		}
	}
	return "unknown"
}

// appendFirst appends the first field of an object, if it has a value.
func appendFirst(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendString(b, value)
}
