package ipc

// A Notice names a sentence of the service for programs; it never changes its
// meaning, and its places keep their names. Programs that know it can say it in
// their user's language; others show the English text that comes with it.
type Notice string

// A sentence is what a Notice says in English, with places to fill, and the Code
// of the Problem that it is.
type sentence struct {
	code Code
	text string
}

// sentences are those of all notices.
var sentences = map[Notice]sentence{}

func notice(name Notice, code Code, english string) Notice {
	sentences[name] = sentence{code, english}
	return name
}

// Sentences of a session.
var (
	SayPortalUnreachable     = notice("portal-unreachable", PortalUnreachable, "The portal {portal} cannot be reached: {reason}. Check the network; it is tried again by itself.")
	SayPortalSilent          = notice("portal-silent", PortalUnreachable, "The portal {portal} does not answer. Check the network; it is tried again by itself.")
	SayDeviceRefused         = notice("device-refused", PortalRefused, "The portal refused this device: {reason}. Ask your administrator; it is tried again by itself.")
	SayTunnelFailed          = notice("tunnel-failed", TunnelFailed, "The tunnel failed: {reason}. It is tried again by itself.")
	SayNotSetUp              = notice("not-set-up", TunnelFailed, "The system could not be set up for the tunnel: {reason}.")
	SayNewSignInRefused      = notice("new-sign-in-refused", TokenRejected, "The portal refused the new sign-in. You go on with the one before.")
	SaySignInEnded           = notice("sign-in-ended", TokenRejected, "The portal ended this sign-in: it has expired or was revoked. Sign in again.")
	SaySignedOut             = notice("signed-out", TokenRejected, "You are signed out. Sign in with: stile sign-in")
	SaySignedOutSince        = notice("signed-out-since", SignedOutSince, "You have signed out since this token was kept. Sign in again.")
	SayPortalUnknown         = notice("portal-unknown", PortalUnknown, "The service does not know its portal. Name it with: stile settings set api_url wss://HOST")
	SayPortalUnknownForToken = notice("portal-unknown-for-token", PortalUnknown, "The administrator of this machine has set a token, but no portal that it is for. Start stiled with --api-url wss://HOST, or set apiURL in the policy.")
	SayPortalChanged         = notice("portal-changed", PortalChanged, "You are signed in at {portal}, but the settings name {set}. Sign in there, or set api_url back.")
	SaySignInElsewhere       = notice("sign-in-elsewhere", PortalChanged, "This sign-in is for {portal}, but the settings name {set} by now. Sign in there, or set api_url back.")
	SayHeldByOther           = notice("held-by-other", HeldByOther, "{holder} is signed in to Stile on this machine. Let them sign out first, or use: sudo stile sign-out")
	SayTokenIsManaged        = notice("token-is-managed", TokenIsManaged, "This machine's administrator has set the token ({source}). Ask them, or remove it there, to sign in or out yourself.")
)

// Sentences about resources.
var (
	SayInternetIsOff = notice("internet-is-off", InternetIsOff, "Switch it on with: stile internet on")
	SaySiteOffline   = notice("site-offline", SiteOffline, "No gateway of its site is online. Ask your administrator; it is tried again with the next use.")
	SayNotConnected  = notice("not-connected", NotConnected, "The portal does not answer, so that no new access can be asked for.")
)

// Sentences about settings and logs. {setting} is a JSON name of Settings.
var (
	SaySettingManaged  = notice("setting-managed", SettingManaged, "{setting} is set by the administrator of this machine, and cannot be changed here. Ask them.")
	SayInternetManaged = notice("internet-managed", SettingManaged, "The administrator of this machine switched the Internet resource on for this service. Ask them.")
	SayNoAddress       = notice("no-address", InvalidArgument, "{setting}: not an address; write it like {like}.")
	SayAddressWithUser = notice("address-with-user", InvalidArgument, "{setting}: an address with a user name or password; write it like {like}.")
	SayAddressWithMore = notice("address-with-more", InvalidArgument, "{setting}: an address with ? or #; write it like {like}.")
	SayNotEncrypted    = notice("not-encrypted", InvalidArgument, "{setting}: not encrypted; write it like {like}.")
	SayOtherAddress    = notice("other-address", InvalidArgument, "{setting}: an address of another kind; write it like {like}.")
	SayNoLogFilter     = notice("no-log-filter", InvalidArgument, "{filter} is no log filter: write a level (trace, debug, info, warn, error, off), or TARGET=LEVEL, separated by commas.")
	SayNoLogs          = notice("no-logs", NoLogs, "The service writes no log files: it could not, or was told so. Its log is shown by: journalctl -u stiled")
	SayLogsStay        = notice("logs-stay", NoLogs, "Not all log files could be deleted: {reason}.")
	SayExportRuns      = notice("export-runs", Busy, "Another export of logs is running. Wait for it.")
)

// Sentences about whoever speaks with the service.
var (
	SayNotAllowed       = notice("not-allowed", NotAllowed, "You may not control Stile on this machine. Use sudo, or ask an administrator to run once: {command}")
	SayCallerUnknown    = notice("caller-unknown", NotAllowed, "The service could not find out who you are, so that it does not let you in.")
	SayProgramUntrusted = notice("program-untrusted", NotAllowed, "This program may not control Stile ({reason}). Use the installed stile, or sudo; an administrator can allow others with the option --programs of stiled: a path, or any.")
	SayProgramReplaced  = notice("program-replaced", WrongVersion, "Stile was updated while this program ran. Start the program anew.")
	SayTooMany          = notice("too-many", Busy, "Too many programs are connected to the service. Close some of them and try again.")
	SayStopping         = notice("stopping", Stopping, "The service is stopping.")
	SayStoppingBusy     = notice("stopping-busy", Stopping, "The service is stopping. Try again in a while.")
	SayInternal         = notice("internal", Internal, "The service could not do that: {reason}. Its log may tell more.")
	SayOldProgram       = notice("old-program", WrongVersion, "This program is of version {program}, the service of version {service}, and they do not understand each other. Start the program anew: Stile was updated.")
	SayOldService       = notice("old-service", WrongVersion, "This program is of version {program}, the service of version {service}, and they do not understand each other. Restart the service: Stile was updated.")
	SayOldProtocol      = notice("old-protocol", WrongVersion, "The program speaks version {program} of the local protocol, the service version {service}. Start the program anew: Stile was updated.")
	SayNewProtocol      = notice("new-protocol", WrongVersion, "The program speaks version {program} of the local protocol, the service version {service}. Restart the service: Stile was updated.")
	SayUnknownCommand   = notice("unknown-command", UnknownCommand, "The service does not know the command {command}; it may be older than the program. Restart or update it.")
	SayNoQuestions      = notice("no-questions", UnknownCommand, "The service does not answer such questions.")
	SayInvalidArgument  = notice("invalid-argument", InvalidArgument, "{command}: {reason}.")
	SayNotJSON          = notice("not-json", Malformed, "The request is not JSON of the expected form.")
	SayUnknownFields    = notice("unknown-fields", Malformed, "The request has fields that the service does not know.")
	SayNotOurLanguage   = notice("not-our-language", Malformed, "The program does not speak the service's language.")
)

// Notices are all of them, with what they say in English.
func Notices() map[Notice]string {
	all := make(map[Notice]string, len(sentences))
	for n, s := range sentences {
		all[n] = s.text
	}
	return all
}

// With makes a Problem of the notice. The arguments are names of places and what
// to put there, in turn; a place that gets nothing stays as it is.
func (n Notice) With(places ...string) *Problem {
	s := sentences[n]
	p := &Problem{Code: s.code, Text: s.text, Say: n}
	for i := 0; i+1 < len(places); i += 2 {
		if p.With == nil {
			p.With = map[string]string{}
		}
		p.With[places[i]] = places[i+1]
	}
	if text, ok := Fill(s.text, p.With); ok {
		p.Text = text
	}
	return p
}
