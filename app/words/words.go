// Package words is what the app says to people, one table per language. A table
// is a struct, so that the compiler finds what nobody translated a caller to,
// and a test what nobody filled in.
//
// Titles of menu items are sentence fragments without full stop; texts of
// notifications are sentences. Names that come from elsewhere are inserted as
// they are: whoever shows them escapes what its medium takes for markup.
//
// What is not the app's own to say comes without a language: the service's
// sentences as an ipc.Notice with what fills its places ([Words.Problem]), why
// something cannot be reached as a finding of package cause, whose sentences
// [Words.Causes] has. A test wants each in every language, with the same places.
// What the system or a peer gives as a reason, such as "connection refused", is
// shown as it is, and so are the lines of logs.
//
// The command line is in English for everybody: its words are what scripts,
// manuals and whoever helps over the telephone rely on. So are the pages that end
// a sign-in from there.
package words

import "strings"

// Words are the texts of one language.
type Words struct {
	Tag string // as in "de", RFC 5646

	// Head of the menu, by how far the session has come.
	Looking        string // the service was not found yet
	ServiceLost    string // it was there, and is searched for
	ServiceMissing string // it is not running
	ServiceDenied  string // it refuses to speak with this user
	ServiceSilent  string // it takes connections, and says nothing
	AppOutdated    string // service and app are of different versions
	RestartApp     string
	SignIn         string
	SignedOut      string
	WaitingBrowser string
	CancelSignIn   string
	Connecting     string
	PortalAway     string // no answer at the first attempt
	PortalLost     string // it was there; the tunnel goes on without it
	RetryNow       string
	Raising        string
	TunnelFailed   string
	TokenRejected  string
	PortalRefused  string
	PortalUnknown  string
	PortalChanged  string // the sign-in is for another portal than the one that is set
	Ending         string
	Quitting       string
	SignedInAs     func(actor string) string
	SignedIn       string // nobody knows as whom
	ByAdmin        string // with a token of the administrator
	SignOut        string
	Connect        string                   // with the sign-in that is there
	HeldBy         func(user string) string // another user of this computer is signed in
	MoreDetails    string
	FromFile       string // where an administrator's token comes from
	FromEnviron    string

	// Resources.
	Resources         string
	FavoriteResources string
	OtherResources    string
	NoResources       string
	Resource          string
	Site              string
	AddFavorite       string
	RemoveFavorite    string
	AllTraffic        string
	EnableInternet    string
	DisableInternet   string
	Range             func(first, last string) string // of a part of a long list
	Why               string

	// How a resource stands.
	NoActivity  string
	Offline     string
	Connected   string
	Direct      string // connected from address to address
	Relayed     string // connected through a relay
	NotNow      string // there is no session, or no portal, to ask
	Forbidden   string // a condition of the policy is not met
	GatewayOld  string
	InternetOff string

	// Foot of the menu.
	Download      func(version string) string
	Status        string
	Settings      string
	Diagnostics   string
	ExportLogs    string
	AdminPortal   string
	Help          string
	Documentation string
	Support       string
	About         string
	Quit          string
	QuitConnected string // the session goes on in the service

	// Notifications.
	ConnectedTitle    string
	ConnectedText     string
	SignInAgainTitle  string
	SignInAgainText   string
	ServiceLostTitle  string
	ServiceLostText   string
	BackTitle         string // the service was lost, and is there again
	OutdatedText      string
	RefusedTitle      string // the service did not do what was asked
	UnreachableTitle  func(resource string) string
	SiteOfflineText   func(site string) string
	GatewayOldText    func(site string) string
	UpdateTitle       func(version string) string
	UpdateText        string
	NoTrayTitle       string
	NoTrayText        string
	CopiedTitle       func(what string) string
	SignInFailedTitle string
	CopyFailedTitle   string
	OpenFailedTitle   string
	AddressCopied     string // where to sign in
	PageText          string // how to get to the status page

	// Why the service cannot be asked, and what helps.
	NotRunning  func(command string) string
	MayNotSpeak string
	NoResponse  func(command string) string
	Stranger    string // somebody else answers in its place
	BrokeOff    string
	NotReached  func(reason string) string

	// Why a click was of no use, and what to do.
	ServiceAway      string
	NoPortal         string
	NoSignIn         string // none is under way
	SignInImpossible func(reason string) string
	NoBrowserSignIn  string
	NoBrowserPage    string
	NoBrowserOpen    func(address string) string
	DesktopFailed    func(reason string) string
	NotCopied        string
	NotDone          func(reason string) string

	// What the browser shows when it comes back from a sign-in.
	DoneTitle         string
	TakenText         string
	TakenBeforeText   string
	NotSignedInTitle  string
	SignInOverTitle   string
	ForgedText        string // of another sign-in
	LateText          string // given up
	NoCodeText        string // what was pasted
	IncompleteText    string
	NotHereTitle      string
	NotHereText       string
	NoPageTitle       string
	NoPageText        string
	NotLikeThisTitle  string
	NotLikeThisText   string
	OtherBrowserTitle string
	OtherBrowserText  string
}

// languages are all tables, the first for whoever speaks none of them.
var languages = []*Words{&English, &German}

// For returns the table for a language as the environment names it:
// "de_AT.UTF-8", "de-AT" or "de". A list, as of $LANGUAGE, is separated by
// colons; the first that is known counts.
func For(wish string) *Words {
	for one := range strings.SplitSeq(wish, ":") {
		tag := strings.ToLower(one)
		if end := strings.IndexAny(tag, "_-.@"); end >= 0 {
			tag = tag[:end]
		}
		for _, w := range languages {
			if w.Tag == tag {
				return w
			}
		}
	}
	return languages[0]
}
