package policy

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
	clientID := r.guid(application["clientID"], "copy the application (client) ID, not the object ID or the name")
	source, _ := r.reference(application["source"], "source", sources)
	return Identity{Application: &Application{ClientID: clientID, Source: source}}
}
