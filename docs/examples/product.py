"""Feedback from one's own product in Python: an answer through the `openai` client, its rating, a vote on two.

python docs/examples/product.py http://127.0.0.1:8000
"""

import os
import sys

import httpx
import openai

server = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
key = os.environ.get("DPO_KEYS__API", "none")
person = "user-4711"  # your own name for the person: the server keeps a pseudonym of it

with openai.OpenAI(base_url=f"{server}/v1", api_key=key) as client:
    answer = client.chat.completions.create(
        model="chat",  # follows the rollout; this person stays on one side of it
        user=person,
        messages=[{"role": "user", "content": "Why is the sky blue?"}],
    )
print(f"{answer.model} says: {answer.choices[0].message.content}")

with httpx.Client(base_url=f"{server}/v1", headers={"Authorization": f"Bearer {key}"}, timeout=60) as feedback:
    rated = feedback.post("/feedback", json={"request_id": answer.id, "rating": 4})
    print("rated:", rated.raise_for_status().json()["event_id"])

    pair = feedback.post("/comparisons", json={"prompt": "Why is the sky blue?", "annotator": person})
    shown = pair.raise_for_status().json()
    print("left: ", shown["answers"]["left"], "\nright:", shown["answers"]["right"])
    vote = {"token": shown["token"], "vote": "left", "annotator": person}
    voted = feedback.post(f"/comparisons/{shown['comparison_id']}/vote", json=vote)
    print("voted:", voted.raise_for_status().json())
