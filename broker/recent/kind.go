package recent

import "slices"

// kind is what issuances have in common: those of one token, to one agent, through
// one door are many, and hardly differ.
type kind struct {
	of      Issuance // of the first; what entries have of their own is not looked at
	bytes   int      // of the texts
	entries int      // that are remembered
	share   *share   // that they are in
	agent   *agentUse
	rights  []*RightUse // of the scopes; nil elements: there was no room
}

// kindKey finds the kind that an issuance is likely to be of.
type kindKey struct{ agent, door, uniqueID string }

func (i *Issuance) kindKey() kindKey { return kindKey{i.Agent, i.Door, i.UniqueID} }

// kindOf returns the kind of i, which is a new one if none is known.
func (m *Memory) kindOf(i *Issuance) *kind {
	key := i.kindKey()
	if k := m.kinds[key]; k != nil && k.has(i) {
		return k
	}
	k := &kind{of: *i, share: m.shareOf(i)}
	k.of.own(m)
	k.bytes = k.of.size()
	m.bytes += k.bytes
	k.share.bytes += k.bytes
	m.kinds[k.of.kindKey()] = k // in place of one like it, which its entries keep
	return k
}

// release forgets an entry of k, and with the last one k.
func (m *Memory) release(k *kind) {
	if k.entries--; k.entries > 0 {
		return
	}
	m.bytes -= k.bytes
	k.share.bytes -= k.bytes
	if key := k.of.kindKey(); m.kinds[key] == k {
		delete(m.kinds, key)
	}
}

// has reports whether i is of kind k. Fields are in the order of Issuance.
func (k *kind) has(i *Issuance) bool {
	o := &k.of
	return o.Agent == i.Agent && o.Owner == i.Owner && o.PeerNet == i.PeerNet && o.PeerSocket == i.PeerSocket && o.PeerUID == i.PeerUID && o.PeerKnown == i.PeerKnown &&
		o.Door == i.Door && o.Grant == i.Grant &&
		o.SaidAgentID == i.SaidAgentID && o.SaidAgentName == i.SaidAgentName && o.SaidConversation == i.SaidConversation &&
		o.Identity == i.Identity && o.Member == i.Member && o.Tenant == i.Tenant && o.ClientID == i.ClientID && slices.Equal(o.Scopes, i.Scopes) && o.API == i.API &&
		o.OnBehalfOf == i.OnBehalfOf && o.UserTenant == i.UserTenant && o.UserObjectID == i.UserObjectID && o.UserHash == i.UserHash && o.UserClient == i.UserClient && o.Session == i.Session && o.Inspection == i.Inspection &&
		o.Decision == i.Decision && o.Reason == i.Reason && o.Rule == i.Rule && o.Hint == i.Hint && o.Audited == i.Audited && o.FirstUse == i.FirstUse && o.Revision == i.Revision &&
		sameSteps(o.Steps, i.Steps) &&
		o.Cache == i.Cache && o.Asked == i.Asked && o.TokenKind == i.TokenKind && o.ExpiresAt.Equal(i.ExpiresAt) && o.UniqueID == i.UniqueID &&
		o.CorrelationID == i.CorrelationID && o.RequestID == i.RequestID && o.EntraError == i.EntraError && slices.Equal(o.EntraCodes, i.EntraCodes)
}

// sameSteps: steps are shared by the issuances that they are of.
func sameSteps(a, b []Step) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}
