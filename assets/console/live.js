"use strict";
// Pages work without this. With it they show what changes as it does: the
// server sends parts of the page, each the HTML of one element.
(() => {
	const root = document.documentElement;
	root.classList.add("js");

	// update makes one element like another, touching only what differs: what has
	// the focus, what was typed and what was unfolded stays. Elements with an id
	// stay what they are: a button never becomes another under the finger.
	function update(from, to) {
		const kept = (name) => name === "open" && from.localName === "details";
		for (const a of [...from.attributes]) {
			if (!to.hasAttribute(a.name) && !kept(a.name)) from.removeAttribute(a.name);
		}
		for (const a of to.attributes) {
			if (from.getAttribute(a.name) !== a.value && !kept(a.name)) from.setAttribute(a.name, a.value);
		}
		children(from, to);
	}

	const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");

	function children(from, to) {
		const wanted = new Set();
		for (const n of to.children) if (n.id) wanted.add(n.id);
		let old = from.firstChild;
		for (const next of [...to.childNodes]) {
			while (old && old.id && !wanted.has(old.id)) { // gone
				const gone = old;
				old = old.nextSibling;
				gone.remove();
			}
			let match = old && alike(old, next) ? old : null;
			if (!match && next.id) {
				match = [...from.children].find((n) => n.id === next.id) || null;
				if (match) from.insertBefore(match, old);
			}
			if (!match) {
				from.insertBefore(document.importNode(next, true), old);
				continue;
			}
			if (match === old) old = old.nextSibling;
			if (match.nodeType === Node.ELEMENT_NODE) update(match, next);
			else if (match.nodeValue !== next.nodeValue) match.nodeValue = next.nodeValue;
		}
		while (old) {
			const gone = old;
			old = old.nextSibling;
			gone.remove();
		}
	}

	function show(part) {
		const at = document.getElementById(part.id);
		if (!at) return;
		const focused = at.contains(document.activeElement) ? document.activeElement : null;
		const fresh = new DOMParser().parseFromString("<!DOCTYPE html><body>" + part.html, "text/html").body;
		const like = at.cloneNode(false);
		like.append(...fresh.childNodes);
		children(at, like);
		if (focused && document.activeElement !== focused) {
			// Moved: give the focus back. Gone: stay where it was, not at the top.
			if (focused.isConnected) focused.focus({ preventScroll: true });
			else {
				at.tabIndex = -1;
				at.focus({ preventScroll: true });
			}
		}
	}

	let stream = null;
	let again = 0;
	let missing = 0;
	let searching = false;

	function listen() {
		const address = document.body.dataset.live;
		clearTimeout(again);
		if (stream) stream.close();
		stream = null;
		// Browsers have few connections to one server: pages that nobody looks at
		// need none.
		if (!address || document.hidden) return;
		const mine = new EventSource(address);
		stream = mine;
		mine.onmessage = (e) => {
			if (stream !== mine) return;
			searching = false;
			show(JSON.parse(e.data));
		};
		mine.onopen = () => {
			root.classList.add("live");
			clearTimeout(missing);
			missing = 0;
			document.getElementById("gone").hidden = true;
		};
		mine.onerror = () => {
			root.classList.remove("live");
			// What is shown may be wrong from now on. A moment without an answer is
			// nothing to worry about.
			missing ||= setTimeout(() => { document.getElementById("gone").hidden = false; }, 4000);
			if (mine.readyState !== EventSource.CLOSED || stream !== mine) return;
			if (searching) location.reload(); // the address says what was searched for
			again = setTimeout(listen, 10000);
		};
	}

	function tell(ok, text) {
		const place = document.getElementById("notice");
		place.replaceChildren();
		if (!text) return;
		const p = document.createElement("p");
		p.className = ok ? "notice" : "notice bad";
		p.textContent = text;
		place.append(p);
		place.scrollIntoView({ block: "nearest" });
	}

	async function send(form, button) {
		const body = new URLSearchParams(new FormData(form, button));
		button?.setAttribute("aria-busy", "true");
		try {
			const answer = await fetch(button?.getAttribute("formaction") || form.getAttribute("action"), {
				method: "POST", body, headers: { "Stile-Live": "yes" }, redirect: "error", credentials: "same-origin",
			});
			if (!(answer.headers.get("Content-Type") || "").startsWith("application/json")) {
				location.reload(); // the session has ended, or the form is stale: the page says so
				return;
			}
			const said = await answer.json();
			if (said.go) {
				location.assign(said.go);
				return;
			}
			tell(said.ok, said.text);
			if (said.ok && form.hasAttribute("data-once")) form.reset();
			if (!stream || stream.readyState !== EventSource.OPEN) location.reload();
		} catch {
			location.reload();
		} finally {
			button?.removeAttribute("aria-busy");
		}
	}

	document.addEventListener("submit", (e) => {
		const form = e.target;
		if (form.method !== "post" || form.hasAttribute("data-plain")) {
			if (form.hasAttribute("data-search")) {
				e.preventDefault();
				search(form);
			}
			return;
		}
		e.preventDefault();
		if (e.submitter?.getAttribute("aria-busy") === "true") return;
		send(form, e.submitter);
	});

	document.addEventListener("click", (e) => {
		const button = e.target.closest?.("[data-copy]");
		if (!button) return;
		navigator.clipboard.writeText(button.dataset.copy).then(
			() => tell(true, button.dataset.done),
			() => getSelection().selectAllChildren(button.previousElementSibling),
		);
	});

	// Searching changes the address of the page and of the stream, which then
	// sends what differs.
	let typing = 0;

	function search(form) {
		clearTimeout(typing);
		const fields = new URLSearchParams(new FormData(form));
		for (const [name, value] of [...fields]) if (!value) fields.delete(name);
		const query = fields.size ? "?" + fields : "";
		const path = location.pathname;
		if (location.search === query) return;
		history.replaceState(null, "", path + query);
		const at = document.body.dataset.live.split("?")[0];
		document.body.dataset.live = at + query;
		searching = true;
		listen();
	}

	document.addEventListener("input", (e) => {
		const form = e.target.form;
		if (!form?.hasAttribute("data-search")) return;
		clearTimeout(typing);
		typing = setTimeout(search, 150, form);
	});

	document.addEventListener("visibilitychange", listen);
	addEventListener("pagehide", () => { stream?.close(); stream = null; });
	addEventListener("pageshow", (e) => { if (e.persisted) listen(); });
	listen();
})();
