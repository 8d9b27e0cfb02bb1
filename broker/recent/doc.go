// Package recent remembers the issuances of the last while for the people who
// operate a broker: a thousand, their spans, an hour of counts by the minute, and
// what each agent has used since the start.
//
// It is a memory, not a record: what has to be kept is in the audit log. All of
// it is bounded, in number and in bytes, see [MaxBytes]; nothing of it is on a
// disk. Like the record it is filled from, it has no field that a token, an
// assertion or a key could be put into.
package recent
