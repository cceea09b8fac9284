// The map page of `earmark-trainer evaluate identification`: a canvas, a legend, a card on hover.
// `MAP` is the data that trainer/evaluate/explore.py puts before this script.
"use strict";
(() => {
  const canvas = document.getElementById("map");
  const pen = canvas.getContext("2d");
  const card = document.getElementById("card");
  const thumb = document.getElementById("thumb");
  const words = document.getElementById("words");
  const legend = document.getElementById("legend");
  const search = document.getElementById("search");
  const tally = document.getElementById("tally");
  const picture = new Image();
  const P = MAP.points;
  const REACH = 12; // pixels within which a point is under the pointer
  const DIM = 0.1;

  const state = {
    chosen: null, // index of the animal that stands out
    hovered: -1,
    splits: new Set(MAP.splits),
    onlyDoubtful: false,
    prototypes: true,
    scale: 1, // pixels per unit of the map
    x: 0, // of the canvas's left upper corner, in units of the map
    y: 0,
  };

  // ---- the view: y grows upwards on the map, downwards on the canvas
  const toX = (x) => (x - state.x) * state.scale;
  const toY = (y) => (state.y - y) * state.scale;

  function reset() {
    const xs = [...P.x, ...MAP.prototypes.map((p) => p.x)];
    const ys = [...P.y, ...MAP.prototypes.map((p) => p.y)];
    const [left, right] = range(xs);
    const [low, high] = range(ys);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const margin = 40;
    state.scale = Math.min(
      Math.max(1, width - 2 * margin) / Math.max(right - left, 1e-6),
      Math.max(1, height - 2 * margin) / Math.max(high - low, 1e-6),
    );
    state.x = (left + right) / 2 - width / 2 / state.scale;
    state.y = (low + high) / 2 + height / 2 / state.scale;
    draw();
  }

  function range(values) {
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    return low > high ? [0, 0] : [low, high];
  }

  function resize() {
    const dense = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * dense);
    canvas.height = Math.round(canvas.clientHeight * dense);
    pen.setTransform(dense, 0, 0, dense, 0, 0);
  }

  // ---- what is shown
  const isShown = (i) =>
    state.splits.has(P.split[i]) && (!state.onlyDoubtful || P.verdict[i] !== "right");
  const isBright = (i) =>
    state.chosen === null ||
    P.animal[i] === state.chosen ||
    P.answer[i] === MAP.animals[state.chosen].name;

  // ---- drawing
  function outline(pen, shape, x, y, r) {
    pen.beginPath();
    if (shape === "circle") {
      pen.arc(x, y, r, 0, 2 * Math.PI);
    } else if (shape === "square") {
      pen.rect(x - 0.88 * r, y - 0.88 * r, 1.76 * r, 1.76 * r);
    } else if (shape === "plus") {
      const a = 1.15 * r;
      const b = 0.4 * r;
      polygon(pen, x, y, [
        [-b, -a], [b, -a], [b, -b], [a, -b], [a, b], [b, b],
        [b, a], [-b, a], [-b, b], [-a, b], [-a, -b], [-b, -b],
      ]);
    } else if (shape === "star") {
      const corners = [];
      for (let k = 0; k < 10; k += 1) {
        const length = (k % 2 ? 0.55 : 1.35) * r;
        const angle = (k * Math.PI) / 5 - Math.PI / 2;
        corners.push([length * Math.cos(angle), length * Math.sin(angle)]);
      }
      polygon(pen, x, y, corners);
    } else {
      const a = 1.15 * r;
      const corners = {
        triangle: [[0, -a], [a, 0.8 * a], [-a, 0.8 * a]],
        inverted: [[0, a], [a, -0.8 * a], [-a, -0.8 * a]],
        diamond: [[0, -1.2 * a], [a, 0], [0, 1.2 * a], [-a, 0]],
      };
      polygon(pen, x, y, corners[shape]);
    }
  }

  function polygon(pen, x, y, corners) {
    corners.forEach(([dx, dy], k) => (k ? pen.lineTo(x + dx, y + dy) : pen.moveTo(x + dx, y + dy)));
    pen.closePath();
  }

  function drawPoint(i) {
    const x = toX(P.x[i]);
    const y = toY(P.y[i]);
    const animal = MAP.animals[P.animal[i]];
    const bright = isBright(i);
    const gallery = P.split[i] === "gallery";
    const r = (gallery ? 3 : 4.5) * (bright && state.chosen !== null ? 1.25 : 1);
    pen.globalAlpha = bright ? (gallery && state.chosen === null ? 0.45 : 0.9) : DIM;
    if (P.split[i] === "unknown") {
      pen.strokeStyle = "#777";
      pen.lineWidth = 1.4;
      outline(pen, "circle", x, y, r - 0.5);
      pen.stroke();
    } else {
      pen.fillStyle = animal.colour;
      outline(pen, animal.shape, x, y, r);
      pen.fill();
    }
    if (P.verdict[i] !== "right" && !gallery) {
      pen.strokeStyle = P.verdict[i] === "wrong" ? "#d00" : "#333";
      pen.lineWidth = P.verdict[i] === "wrong" ? 2 : 1;
      pen.setLineDash(P.verdict[i] === "wrong" ? [] : [2, 2]);
      outline(pen, "circle", x, y, r + 3.5);
      pen.stroke();
      pen.setLineDash([]);
    }
  }

  function drawPrototypes() {
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (const prototype of MAP.prototypes) {
      const x = toX(prototype.x);
      const y = toY(prototype.y);
      const bright = state.chosen === null || prototype.animal === state.chosen;
      pen.globalAlpha = bright ? 1 : 0.2;
      for (const [colour, width] of [["#fff", 5], ["#000", 2]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = width;
        pen.beginPath();
        pen.moveTo(x - 5, y - 5);
        pen.lineTo(x + 5, y + 5);
        pen.moveTo(x + 5, y - 5);
        pen.lineTo(x - 5, y + 5);
        pen.stroke();
      }
      const name = prototype.animal === null ? "outliers" : MAP.animals[prototype.animal].name;
      pen.strokeStyle = "#fff";
      pen.lineWidth = 3;
      pen.strokeText(name, x + 9, y);
      pen.fillStyle = "#000";
      pen.fillText(name, x + 9, y);
    }
  }

  function draw() {
    pen.globalAlpha = 1;
    pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    // Gallery below, then what was asked, and what stands out above all.
    const layers = [[], [], []];
    for (let i = 0; i < P.x.length; i += 1) {
      if (isShown(i)) {
        const standsOut = state.chosen !== null && isBright(i);
        layers[standsOut ? 2 : P.split[i] === "gallery" ? 0 : 1].push(i);
      }
    }
    layers.forEach((layer) => layer.forEach(drawPoint));
    if (state.prototypes) drawPrototypes();
    if (state.hovered >= 0) {
      pen.globalAlpha = 1;
      pen.strokeStyle = "#000";
      pen.lineWidth = 2;
      outline(pen, "circle", toX(P.x[state.hovered]), toY(P.y[state.hovered]), 10);
      pen.stroke();
    }
    const count = layers[0].length + layers[1].length + layers[2].length;
    tally.textContent = `${count} of ${P.x.length} crops shown`;
  }

  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    window.requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  }

  // ---- the card
  function nearest(x, y) {
    let best = -1;
    let least = REACH * REACH;
    for (let i = 0; i < P.x.length; i += 1) {
      if (!isShown(i)) continue;
      const far = (toX(P.x[i]) - x) ** 2 + (toY(P.y[i]) - y) ** 2;
      // Of equally near ones the later is drawn on top.
      if (far <= least) {
        least = far;
        best = i;
      }
    }
    return best;
  }

  function line(parent, name, value) {
    const row = document.createElement("div");
    const label = document.createElement("b");
    label.textContent = name;
    row.append(label, document.createTextNode(value));
    parent.append(row);
  }

  function showCard(i, x, y) {
    state.hovered = i;
    card.hidden = i < 0;
    if (i < 0) return;
    const side = MAP.tile;
    const brush = thumb.getContext("2d");
    brush.clearRect(0, 0, thumb.width, thumb.height);
    const [column, row] = [i % MAP.columns, Math.floor(i / MAP.columns)];
    brush.drawImage(picture, column * side, row * side, side, side, 0, 0, thumb.width, thumb.height);
    words.replaceChildren();
    line(words, "animal", MAP.animals[P.animal[i]].name);
    line(words, "session", P.session[i]);
    line(words, "frame", P.frame[i]);
    line(words, "answer", `${P.answer[i]} (${P.split[i]}: ${P.verdict[i]})`);
    if (P.answer[i] !== P.nearest[i]) line(words, "nearest", P.nearest[i]);
    line(words, "distance", figure(P.distance[i]));
    line(words, "margin", figure(P.margin[i]));
    const box = card.getBoundingClientRect();
    const left = x + 18 + box.width > canvas.clientWidth ? x - 18 - box.width : x + 18;
    const top = Math.min(y + 12, canvas.clientHeight - box.height - 6);
    card.style.left = `${Math.max(4, left)}px`;
    card.style.top = `${Math.max(4, top)}px`;
  }

  const figure = (value) => (value === null ? "–" : value.toFixed(3));

  // ---- the pointer
  let drag = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    drag = { at: place(event), x: state.x, y: state.y, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    if (drag) {
      const dx = x - drag.at[0];
      const dy = y - drag.at[1];
      drag.moved = drag.moved || Math.hypot(dx, dy) > 3;
      state.x = drag.x - dx / state.scale;
      state.y = drag.y + dy / state.scale;
      showCard(-1);
    } else {
      showCard(nearest(x, y), x, y);
    }
    redraw();
  });
  canvas.addEventListener("pointerup", (event) => {
    const [x, y] = place(event);
    if (drag && !drag.moved) {
      const i = nearest(x, y);
      choose(i < 0 || P.animal[i] === state.chosen ? null : P.animal[i]);
      showCard(i, x, y);
    }
    drag = null;
    redraw();
  });
  canvas.addEventListener("pointercancel", () => (drag = null));
  canvas.addEventListener("pointerleave", () => {
    showCard(-1);
    redraw();
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const [x, y] = place(event);
      // A wheel may tell lines or pages instead of pixels.
      const step = event.deltaY * [1, 16, 200][event.deltaMode];
      zoom(Math.exp(-Math.max(-200, Math.min(200, step)) / 400), x, y);
    },
    { passive: false },
  );
  canvas.addEventListener("dblclick", reset);

  function zoom(factor, x, y) {
    const mapX = state.x + x / state.scale;
    const mapY = state.y - y / state.scale;
    state.scale *= factor;
    state.x = mapX - x / state.scale;
    state.y = mapY + y / state.scale;
    showCard(-1);
    redraw();
  }

  // ---- the legend
  const buttons = MAP.animals.map((animal, index) => {
    const button = document.createElement("button");
    const swatch = document.createElement("canvas");
    const dense = window.devicePixelRatio || 1;
    swatch.width = swatch.height = Math.round(16 * dense);
    const brush = swatch.getContext("2d");
    brush.scale(dense, dense);
    if (animal.stranger) {
      brush.strokeStyle = "#777";
      outline(brush, "circle", 8, 8, 5);
      brush.stroke();
    } else {
      brush.fillStyle = animal.colour;
      outline(brush, animal.shape, 8, 8, 5);
      brush.fill();
    }
    const name = document.createElement("span");
    name.textContent = animal.name;
    const count = document.createElement("small");
    count.textContent = animal.wrong ? `${animal.crops}, ${animal.wrong} wrong` : `${animal.crops}`;
    button.append(swatch, name, count);
    button.addEventListener("click", () => {
      choose(state.chosen === index ? null : index);
      redraw();
    });
    legend.append(button);
    return button;
  });

  function choose(index) {
    state.chosen = index;
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(k === index)));
  }

  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    const found = [];
    MAP.animals.forEach((animal, k) => {
      const fits = animal.name.toLowerCase().includes(wanted);
      buttons[k].hidden = !fits;
      if (fits) found.push(k);
    });
    const exact = found.find((k) => MAP.animals[k].name.toLowerCase() === wanted);
    choose(!wanted ? null : exact !== undefined ? exact : found.length === 1 ? found[0] : null);
    redraw();
  });

  // ---- switches
  function addSwitch(text, on, change) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = on;
    box.addEventListener("change", () => {
      change(box.checked);
      redraw();
    });
    label.append(box, document.createTextNode(` ${text}`));
    document.getElementById("switches").append(label);
  }
  for (const split of MAP.splits) {
    const count = P.split.filter((name) => name === split).length;
    addSwitch(`${split} (${count})`, true, (on) =>
      on ? state.splits.add(split) : state.splits.delete(split),
    );
  }
  addSwitch("class means", true, (on) => (state.prototypes = on));
  addSwitch("only wrong or refused", false, (on) => (state.onlyDoubtful = on));
  const middle = () => [canvas.clientWidth / 2, canvas.clientHeight / 2];
  document.getElementById("closer").addEventListener("click", () => zoom(1.5, ...middle()));
  document.getElementById("farther").addEventListener("click", () => zoom(1 / 1.5, ...middle()));
  document.getElementById("whole").addEventListener("click", reset);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    search.value = "";
    search.dispatchEvent(new Event("input"));
  });

  window.addEventListener("resize", () => (resize(), redraw()));
  picture.src = MAP.sprite;
  resize();
  reset();
})();
