"""A pipeline class of somebody's own, in a file of its own, with a method beside the call."""

from transformers import Pipeline


class WordLengths(Pipeline):
    """Tells how sure a classifier is of a text, and how long its words are."""

    def _sanitize_parameters(self, power=None, **kwargs):
        return {}, {}, {} if power is None else {"power": power}

    def preprocess(self, inputs):
        return self.tokenizer(inputs, return_tensors="pt")

    def _forward(self, model_inputs):
        return self.model(**model_inputs)

    def postprocess(self, model_outputs, power=1):
        return {"certainty": float(model_outputs.logits.softmax(-1).max()) ** power}

    def lengths(self, texts):
        """Return the lengths of each text's words; an empty text has none."""
        if "" in texts:
            raise ValueError("a text is empty")
        return [[len(word) for word in text.split()] for text in texts]
