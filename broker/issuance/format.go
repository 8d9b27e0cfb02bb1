package issuance

import (
	"bytes"
	"slices"
	"strconv"
	"time"
)

// Format is the shape of audit lines.
type Format string

// The formats. The empty Format is Native.
const (
	Native Format = "native"
	OCSF   Format = "ocsf" // see appendOCSF
)

// end is what a line ends with: the chain's fields go before it.
func (f Format) end() string {
	if f == OCSF {
		return "}}\n"
	}
	return "}\n"
}

// chainRecord is the record that a chain begins a run or a file with, without
// its end.
func (f Format) chainRecord(event string, at time.Time) []byte {
	var b []byte
	if f == OCSF {
		// The base event is for what no class is made for.
		b = append(b, `{"activity_id":99,"activity_name":"Audit chain","category_uid":0,"class_uid":0,"type_uid":99,"severity_id":1,"time":`...)
		b = strconv.AppendInt(b, at.UnixMilli(), 10)
		b = appendMetadata(b, "", event, "", "")
		b = append(b, `,"unmapped":`...)
	}
	b = append(b, `{"time":"`...)
	b = appendTime(b, at)
	b = append(b, `","type":"`+chainType+`"`...)
	return appendField(b, "event", event)
}

// begins reports whether a line without its newline is the record that a chain
// begins with, to the letter.
func begins(line []byte) bool {
	_, rest, _ := bytes.Cut(line, []byte(`{"time":"`))
	text, _, _ := bytes.Cut(rest, []byte{'"'})
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return false
	}
	return slices.ContainsFunc([]Format{Native, OCSF}, func(f Format) bool {
		record := link{seq: 1}.append(f.chainRecord("chain.begun", at), f)
		return bytes.Equal(line, record[:len(record)-1])
	})
}
