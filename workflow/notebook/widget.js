// The page of a run in a frame. What is selected there is `selected` of the model, and the other way round.
function render({model, el}) {
  const frame = document.createElement("iframe");
  // Without an origin: the page cannot touch the notebook.
  frame.setAttribute("sandbox", "allow-scripts");
  frame.title = "Page of the run";
  Object.assign(frame.style, {display: "block", width: "100%", border: "0"});
  // What the page shows, so that it is not told what it has said itself.
  let shown = "";
  const resize = () => { frame.style.height = `${model.get("height")}px`; };
  const send = () => {
    const selected = model.get("selected");
    if (JSON.stringify(selected) !== shown) frame.contentWindow?.postMessage({overcluster: selected}, "*");
  };
  const hear = ({source, data}) => {
    if (!source || source !== frame.contentWindow || !data?.overcluster) return;
    shown = JSON.stringify(data.overcluster);
    // A page that opens, a second time perhaps, shows what is selected already.
    if (data.begins && Object.keys(model.get("selected")).length) return send();
    model.set("selected", data.overcluster);
    model.save_changes();
  };
  addEventListener("message", hear);
  model.on("change:selected", send);
  model.on("change:height", resize);
  resize();
  frame.srcdoc = new TextDecoder().decode(model.get("_page"));
  el.append(frame);
  return () => {
    removeEventListener("message", hear);
    model.off("change:selected", send);
    model.off("change:height", resize);
  };
}

export default {render};
