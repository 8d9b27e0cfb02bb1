package policy

import (
	"math"
	"path"
	"strings"
)

// callerPlaces are where the parts of a caller stand.
type callerPlaces struct {
	caller, socket, keyFile, any, uidList place
	uids                                  []place
}

var (
	uidList = some(numbers(0, math.MaxUint32-1))
	tcpForm = fieldsOf(
		optional("uids", uidList, "The peer runs as one of these user ids."),
		optional("keyFile", anyText, "The peer presents the key in this file; a relative path is relative to the policy file."),
		optional("any", trueFalse, "Any local process is the agent: not beside uids or keyFile, and warned about."),
	).notEmpty()
	callerForm = fieldsOf(
		optional("socket", matching(`^([A-Za-z0-9_-][A-Za-z0-9._-]{0,62}|/.+)$`), "Unix socket of this agent alone: a bare file name, or an absolute path."),
		optional("uids", uidList, "The peer at the socket runs as one of these user ids."),
		optional("tcp", tcpForm, "Loopback TCP, with who the peer has to be."),
	).exactlyOne("socket", "tcp")
)

// caller reads one way to recognise an agent.
func (r *reader) caller(at place, strict bool) (Caller, callerPlaces, bool) {
	places := callerPlaces{caller: at}
	problems := r.found
	fields, ok := r.fields(at, &callerForm)
	if !ok {
		return Caller{}, places, false
	}
	socket, tcp := fields["socket"], fields["tcp"]
	switch {
	case socket.present() && tcp.present():
		r.problem(at, "a caller has either a socket or tcp", "make two callers of it: the agent is matched by any of them")
	case socket.present():
		return r.socketCaller(places, socket, fields["uids"])
	case tcp.present() && fields["uids"].present():
		r.problem(fields["uids"], "beside tcp, uids has no effect", "move it into tcp: {tcp: {uids: [...]}}")
	case tcp.present():
		return r.tcpCaller(places, tcp, strict)
	case r.found == problems: // else one of the unknown fields was meant
		r.problem(at, "the caller names neither a socket nor tcp", "write {socket: <name>.sock} or {tcp: {uids: [<uid>]}}")
	}
	return Caller{}, places, false
}

var socketName = patternOf(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}$`)

// maxSocketPath is what fits into a Linux sockaddr_un with its final NUL.
const maxSocketPath = 107

func (r *reader) socketCaller(places callerPlaces, socket, uids place) (Caller, callerPlaces, bool) {
	places.socket = socket
	name, ok := r.text(socket)
	if !ok {
		return Caller{}, places, false
	}
	absolute := strings.HasPrefix(name, "/") && name != "/" && path.Clean(name) == name &&
		len(name) <= maxSocketPath && !strings.ContainsFunc(name, unprintable)
	if !absolute && !socketName.MatchString(name) {
		r.problem(socket, quote(name)+" is neither a bare file name nor a clean absolute path", "write <agent>.sock; the folder is chosen when the program starts")
		ok = false
	}
	list, ok2 := r.uids(uids, &places)
	if ok && ok2 && !uids.present() {
		r.warning(socket, "whoever may open this socket is the agent", "add uids: [<uid of the agent>]")
	}
	return Caller{Socket: name, UIDs: list}, places, ok && ok2
}

func (r *reader) tcpCaller(places callerPlaces, tcp place, strict bool) (Caller, callerPlaces, bool) {
	problems := r.found
	fields, ok := r.fields(tcp, &tcpForm)
	if !ok {
		return Caller{}, places, false
	}
	caller := Caller{TCP: true}
	places.keyFile, places.any = fields["keyFile"], fields["any"]
	uids, okUIDs := r.uids(fields["uids"], &places)
	caller.UIDs = uids
	okKey := true
	if places.keyFile.present() {
		caller.KeyFile, okKey = r.filePath(places.keyFile)
	}
	anyone, okAny := r.boolean(places.any)
	caller.Any = anyone
	if !okUIDs || !okKey || !okAny || r.found > problems {
		return caller, places, false
	}
	switch restricted := len(uids) > 0 || caller.KeyFile != ""; {
	case anyone && restricted:
		r.problem(places.any, "any admits every local process, whatever stands beside it", "remove any, or what stands beside it")
		return caller, places, false
	case anyone && strict:
		r.problem(places.any, "strict: any process that can reach the port is the agent", "use uids, a keyFile, or a socket")
		return caller, places, false
	case anyone:
		r.warning(places.any, "any process that can reach the port is the agent", "use uids, a keyFile, or a socket")
	case !restricted:
		r.problem(tcp, "tcp does not say who", "add uids: [<uid>], keyFile: <path>, or any: true for any local process")
		return caller, places, false
	}
	return caller, places, true
}

// uids reads a list of user ids. An empty list is refused: some would read it
// as nobody, others as everybody.
func (r *reader) uids(at place, places *callerPlaces) ([]uint32, bool) {
	if !at.present() {
		return nil, true
	}
	places.uidList = at
	problems := r.found
	items := r.items(at)
	if len(items) == 0 && r.found == problems {
		r.problem(at, "the list is empty", "list the uids of the agent, or remove the field")
	}
	var uids []uint32
	for _, item := range items {
		uid, ok := r.number(item, "a uid from 0 to 4294967294")
		if ok && uid == math.MaxUint32 {
			r.problem(item, "4294967295 is the uid that nobody can have", "write the uid of the agent")
		}
		uids = append(uids, uid)
	}
	places.uids = items
	return uids, r.found == problems
}
