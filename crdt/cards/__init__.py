"""The card of a record: text, tags and evaluations that several writers edit at once."""

from crdt.cards.bodies import CardBody, encode_card, open_card
from crdt.cards.contents import Card
from crdt.cards.documents import CardDocument
from crdt.cards.editing import CardDraft, edit_card
from crdt.cards.layouts import Layout, check_card, layout_of_seed, layouts_of
from crdt.cards.parts import CARD_DEPTH_MAX, CardPart, seed_of
from crdt.cards.seeds import Seed
from crdt.cards.values import Json

__all__ = [
    "CARD_DEPTH_MAX", "Card", "CardBody", "CardDocument", "CardDraft", "CardPart", "Json",
    "Layout", "Seed", "check_card", "edit_card", "encode_card", "layout_of_seed", "layouts_of",
    "open_card", "seed_of",
]  # fmt: skip
