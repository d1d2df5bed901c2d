// Asks the device, and sends what it answers as the form of the page. Nothing else runs here.
"use strict";
const form = document.getElementById("ask");
const said = document.getElementById("said");
const button = form.querySelector("button");
button.hidden = false;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const asked = JSON.parse(form.dataset.asked);
  button.disabled = true;
  said.textContent = "";
  try {
    const key = form.dataset.adds === "yes"
      ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(asked) })
      : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(asked) });
    form.elements.answer.value = JSON.stringify(key.toJSON());
    form.submit();
  } catch (error) {
    said.textContent = error.name === "NotAllowedError"
      ? "The device was not unlocked, or has no passkey for this site. Try again, or go back."
      : "This browser cannot do it here: " + error.name + ".";
    button.disabled = false;
  }
});
