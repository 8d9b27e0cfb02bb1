package policy

import "strings"

// source reads one way to get a workload token.
func (r *reader) source(at place) Source {
	fields, ok := r.fields(at, []string{"file"}, []string{"file"})
	if !ok || !fields["file"].present() {
		return Source{}
	}
	file, ok := r.fields(fields["file"], []string{"path"}, []string{"path"})
	if !ok || !file["path"].present() {
		return Source{}
	}
	path, _ := r.filePath(file["path"])
	return Source{File: &FileSource{Path: path}}
}

// identity reads one thing that the broker can be at Entra.
func (r *reader) identity(at place, sources []string) Identity {
	fields, ok := r.fields(at, []string{"application"}, []string{"application"})
	if !ok || !fields["application"].present() {
		return Identity{}
	}
	application, ok := r.fields(fields["application"], []string{"clientID", "source"}, []string{"clientID", "source"})
	if !ok {
		return Identity{}
	}
	clientID, ok := r.text(application["clientID"])
	if ok && !isGUID(strings.ToLower(clientID)) {
		r.problem(application["clientID"], quote(clientID)+" is not a GUID", "copy the application (client) ID, not the object ID or the name")
	}
	source, _ := r.reference(application["source"], "source", sources)
	return Identity{Application: &Application{ClientID: strings.ToLower(clientID), Source: source}}
}
