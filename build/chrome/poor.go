package chrome

// Poor lists texts of the page whose contrast is below 4.5, and edges of
// controls below 3.
func (p *Page) Poor() (list []string) {
	p.Eval(poor, &list)
	return list
}

const poor = `(() => {
	const lin = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
	const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
	const parse = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); const d = canvas.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
	const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
	const ground = e => { let c = [0, 0, 0, 0]; for (; e; e = e.parentElement) { const b = parse(getComputedStyle(e).backgroundColor); c = c[3] === 0 ? b : over(c, b); if (c[3] === 1) return c; } return over(c, parse(sheet)); };
	const probe = document.body.appendChild(document.createElement("i"));
	probe.style.backgroundColor = "Canvas"; // what is below all
	const sheet = getComputedStyle(probe).backgroundColor;
	probe.remove();
	const luminance = c => .2126 * lin(c[0]) + .7152 * lin(c[1]) + .0722 * lin(c[2]);
	const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
	const poor = [];
	for (const e of document.querySelectorAll("body *")) {
		if (!e.checkVisibility()) continue;
		const s = getComputedStyle(e), text = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
		const tell = (what, r) => poor.push(what + " " + r.toFixed(2) + ": " + e.outerHTML.slice(0, 120));
		if (text || e.matches("input, select")) {
			const r = ratio(over(parse(s.color), ground(e)), ground(e));
			if (r < 4.5) tell("text", r);
		}
		if (e.matches("input[placeholder]")) {
			const r = ratio(over(parse(getComputedStyle(e, "::placeholder").color), ground(e)), ground(e));
			if (r < 4.5) tell("placeholder", r);
		}
		if (e.matches("button:not(.bare):not(.main):not(:disabled), .button, input:not([type=hidden]):not([readonly]):not([type=checkbox]):not([type=radio]), select")) {
			const r = ratio(parse(s.borderTopColor), ground(e.parentElement));
			if (r < 3) tell("edge", r);
		}
		if (e.matches(".dot:not(:has(.hollow)), .shape .fill, .line, .icon, .shape .ring, .dot .hollow")) {
			const c = s.fill !== "none" && !e.matches(".line, .icon, .ring, .hollow") ? s.fill : s.stroke;
			const r = ratio(parse(c), ground(e));
			if (r < 3 && !e.closest(".busy")) tell("sign", r);
		}
	}
	return poor;
})()`
