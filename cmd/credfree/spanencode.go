package main

import (
	"errors"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of the fields of OTLP that spans like ours have, of the messages
// ResourceSpans, ScopeSpans, Span, Span.Link, Status, KeyValue and AnyValue of
// https://github.com/open-telemetry/opentelemetry-proto, trace/v1 and common/v1.
const (
	fieldResource, fieldScopeSpans, fieldSchema = 1, 2, 3
	fieldResourceAttribute                      = 1
	fieldScope, fieldSpan                       = 1, 2
	fieldScopeName, fieldScopeVersion           = 1, 2
	fieldTraceID, fieldSpanID                   = 1, 2 // of a span and of a link
	fieldTraceState, fieldParent, fieldName     = 3, 4, 5
	fieldKind, fieldStart, fieldEnd             = 6, 7, 8
	fieldAttribute, fieldAttributesLost         = 9, 10
	fieldLink, fieldStatus, fieldFlags          = 13, 15, 16
	fieldLinkFlags                              = 6
	fieldMessage, fieldCode                     = 2, 3
	fieldKey, fieldValue                        = 1, 2
	fieldString, fieldBool, fieldInt, fieldList = 1, 2, 3, 5
	fieldListed                                 = 1
)

// errUnusual is of a span that has what ours do not have.
var errUnusual = errors.New("an unusual span")

// append appends the scope with its spans, as a ScopeSpans.
func (s *scopeSpans) append(b []byte) []byte {
	scope := appendText(appendText(nil, fieldScopeName, s.Name), fieldScopeVersion, s.Version)
	before, after := appendBytes(nil, fieldScope, scope), appendText(nil, fieldSchema, s.SchemaURL)
	b = protowire.AppendTag(b, fieldScopeSpans, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(before)+len(s.spans)+len(after)))
	return append(append(append(b, before...), s.spans...), after...)
}

func appendSpan(b []byte, s sdktrace.ReadOnlySpan) ([]byte, error) {
	if scope := s.InstrumentationScope(); len(s.Events()) > 0 || s.DroppedEvents() > 0 || s.DroppedLinks() > 0 || scope.Attributes.Len() > 0 || scope.Name == "" {
		return nil, errUnusual
	}
	sc, parent := s.SpanContext(), s.Parent()
	b = appendIDs(b, sc)
	b = appendText(b, fieldTraceState, sc.TraceState().String())
	if id := parent.SpanID(); id.IsValid() {
		b = appendBytes(b, fieldParent, id[:])
	}
	b = appendText(b, fieldName, s.Name())
	b = appendNumber(b, fieldKind, uint64(s.SpanKind())) // the SDK takes six kinds, which have OTLP's numbers
	b = appendTime(b, fieldStart, s.StartTime())
	b = appendTime(b, fieldEnd, s.EndTime())
	b, err := appendAttributes(b, fieldAttribute, s.Attributes())
	b = appendNumber(b, fieldAttributesLost, uint64(min(max(0, s.DroppedAttributes()), math.MaxUint32)))
	for _, link := range s.Links() {
		if len(link.Attributes) > 0 || link.DroppedAttributeCount > 0 {
			return nil, errUnusual
		}
		one := appendIDs(make([]byte, 0, 40), link.SpanContext)
		b = appendBytes(b, fieldLink, appendFlags(one, fieldLinkFlags, link.SpanContext, link.SpanContext))
	}
	status := appendText(make([]byte, 0, 64), fieldMessage, s.Status().Description)
	b = appendBytes(b, fieldStatus, appendNumber(status, fieldCode, otlpStatus(s.Status().Code)))
	return appendFlags(b, fieldFlags, sc, parent), err
}

func appendIDs(b []byte, sc trace.SpanContext) []byte {
	traceID, spanID := sc.TraceID(), sc.SpanID()
	return appendBytes(appendBytes(b, fieldTraceID, traceID[:]), fieldSpanID, spanID[:])
}

// appendFlags appends the W3C trace flags, and whether the parent is of another process.
func appendFlags(b []byte, field protowire.Number, sc, parent trace.SpanContext) []byte {
	flags := uint32(sc.TraceFlags()) | uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)
	if parent.IsRemote() {
		flags |= uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
	}
	return protowire.AppendFixed32(protowire.AppendTag(b, field, protowire.Fixed32Type), flags)
}

// otlpStatus is the number of a status, which OTLP has in another order.
func otlpStatus(code codes.Code) uint64 {
	switch code {
	case codes.Ok:
		return uint64(tracepb.Status_STATUS_CODE_OK)
	case codes.Error:
		return uint64(tracepb.Status_STATUS_CODE_ERROR)
	case codes.Unset:
	}
	return uint64(tracepb.Status_STATUS_CODE_UNSET)
}

// appendAttributes appends KeyValues.
func appendAttributes(b []byte, field protowire.Number, attributes []attribute.KeyValue) ([]byte, error) {
	var room, listRoom, listedRoom [256]byte
	one := make([]byte, 0, 320)
	for _, kv := range attributes {
		value := room[:0]
		switch kv.Value.Type() {
		case attribute.STRING:
			value = appendString(value, fieldString, kv.Value.AsString())
		case attribute.BOOL:
			value = protowire.AppendVarint(protowire.AppendTag(value, fieldBool, protowire.VarintType), protowire.EncodeBool(kv.Value.AsBool()))
		case attribute.INT64:
			value = protowire.AppendVarint(protowire.AppendTag(value, fieldInt, protowire.VarintType), uint64(kv.Value.AsInt64()))
		case attribute.STRINGSLICE:
			list := listRoom[:0]
			for _, text := range kv.Value.AsStringSlice() {
				list = appendBytes(list, fieldListed, appendString(listedRoom[:0], fieldString, text))
			}
			value = appendBytes(value, fieldList, list)
		case attribute.EMPTY, attribute.FLOAT64, attribute.BOOLSLICE, attribute.INT64SLICE, attribute.FLOAT64SLICE, attribute.BYTESLICE, attribute.SLICE, attribute.MAP:
			return nil, errUnusual
		default:
			return nil, errUnusual
		}
		one = appendBytes(appendString(one[:0], fieldKey, string(kv.Key)), fieldValue, value)
		b = appendBytes(b, field, one)
	}
	return b, nil
}

// appendString appends a string, also an empty one. One that is not UTF-8 would
// cost the whole batch.
func appendString(b []byte, field protowire.Number, text string) []byte {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), text)
}

// appendText appends a string that is left out when it is empty.
func appendText(b []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return b
	}
	return appendString(b, field, text)
}

func appendBytes(b []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
}

func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}

func appendTime(b []byte, field protowire.Number, at time.Time) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), uint64(max(0, at.UnixNano())))
}
