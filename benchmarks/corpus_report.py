"""The shipped corpus against its targets: counts, profile, agreement, leakage and give-aways, as Markdown.

Run by `make corpus-report`; exits 1 if a check fails.
"""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import krippendorff
import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from policy_tagger.inference.codebook import Codebook
from policy_tagger.train.data import SPLITS, LabelledSentence, check, read_labelled
from policy_tagger.train.evaluation import label_vectors

DATA = Path(__file__).parent.parent / "data"
NARRATION = "narration"

# Words that announce a theme. Nothing is labelled by them: they measure how far a reader of words alone would get.
CUES = {
    "export_globalization": "수출|해외|글로벌|현지|바이어|선적|진출",
    "sme_startup": "중소|벤처|스타트업|창업|소상공인|강소|중견|새내기|영세",
    "win_win_cooperation": "상생|동반|협력사|협력업체|납품|하청|원청|얼라이언스|대기업",
    "incentive_tax": "세액|공제|감면|세제|세금|법인세|소득세|취득세|재산세|인센티브|포상|표창|성과급|가점|우대",
    "tailored_support": "컨설팅|상담|자문|멘토|맞춤형|원스톱|매칭|진단|안내",
    "public_funding": "예산|국비|재정|보조금|지원금|융자|보증|펀드|기금|대출|이자|금리|출자",
    "rnd_commercialization": "연구개발|R&D|기술이전|사업화|실증|특허|개발한|시제품|실험|연구실",
    "platform_infra": "플랫폼|인프라|통신망|데이터센터|산업단지|산단|테스트베드|주파수",
    "standards_certification": "표준|인증|시험|검사|규격|기준",
    "regulation": "규제|법안|개정|법률|허가|샌드박스|시행령|고시|제도",
    "business_strategy": "비즈니스|제품|수익|마케팅|시장|가격|요금|구독|전략|점유율|매출|손님|고객|출시|판매",
    "convergence_newindustry": "융합|신산업|AI|인공지능|IoT|사물인터넷|바이오|디지털|로봇|자율주행",
    "trade_environment": "FTA|관세|환율|통상|공급망|무역|협정",
    "workforce": "인력|고용|임금|채용|교육|근로|노동|일자리|인재",
    "governance": "협의체|위원회|협약|로드맵|기본계획|거버넌스|민관|의견",
    "energy_environment": "에너지|탄소|전력|전기|폐기물|재생|기후|태양광|환경|배출",
}
# The pairs that the codebook tells apart, and whether the question can be "one or both?".
PAIRS = [
    ("export_globalization", "trade_environment", False),
    ("export_globalization", "business_strategy", False),
    ("win_win_cooperation", "governance", False),
    ("sme_startup", "win_win_cooperation", False),
    ("incentive_tax", "public_funding", False),
    ("incentive_tax", "regulation", True),
    ("tailored_support", "public_funding", True),
    ("rnd_commercialization", "business_strategy", False),
    ("platform_infra", "standards_certification", False),
    ("platform_infra", "energy_environment", False),
    ("standards_certification", "regulation", False),
    ("regulation", "convergence_newindustry", True),
]
MINISTRIES = (
    "기획재정부|기재부|산업통상자원부|산업통상부|산업부|지식경제부|지경부|산업자원부|산자부|과학기술정보통신부|과기정통부|미래창조과학부|미래부|"
    "정보통신부|정통부|중소벤처기업부|중기부|중소기업청|중기청|고용노동부|고용부|환경부|국토교통부|국토부|국토해양부|해양수산부|해수부|농림축산식품부|"
    "농식품부|농림부|보건복지부|복지부|식품의약품안전처|식약처|교육부|행정안전부|행안부|문화체육관광부|문체부|금융위원회|금융위|공정거래위원회|공정위|"
    "방송통신위원회|방통위|개인정보보호위원회|개인정보위|특허청|관세청|조달청|통계청|산림청|기상청|방위사업청|소방청|국세청|국방부|외교부|법무부"
)
ORGANISATION = re.compile(
    rf"{MINISTRIES}|KOTRA|코트라|한국은행|한은|무역협회|대한상의|중기중앙회|전경련|경총|한국노총|민주노총|"
    r"[가-힣A-Za-z]{2,12}(?:진흥원|연구원|연구소|진흥회|공사|공단|협회|조합|연합회|중앙회|상공회의소|상의|위원회|재단|노조|연대|연합|대학교|대학|학회|의회|센터|은행|"
    r"테크|전자|정밀|산업|화학|중공업|건설|에너지|바이오|소프트|시스템|㈜)"
)
QUOTE = re.compile(r"[“\"][^”\"]{2,}[”\"]|“|”")
SPLIT_QUOTE = re.compile(r"[”\"][^“\"]{1,60}[“\"]")

TARGETS: list[tuple[str, str, float, float, Callable[[str], bool]]] = [  # name, target in words, least, most, test
    ("digits", "44%", 0.34, 0.54, lambda t: bool(re.search(r"\d", t))),
    ("Latin letters", "23%", 0.15, 0.31, lambda t: bool(re.search(r"[A-Za-z]", t))),
    ("brackets", "17%", 0.10, 0.24, lambda t: bool(re.search(r"[()]", t))),
    ("curly double quotes", "16%", 0.10, 0.24, lambda t: bool(re.search(r"[“”]", t))),
    ("·", "14%", 0.08, 0.20, lambda t: "·" in t),
    ("straight double quotes", "10%", 0.05, 0.16, lambda t: '"' in t),
    ("‘ ’", "9%", 0.05, 0.14, lambda t: bool(re.search(r"[‘’]", t))),
    ("%", "7%", 0.04, 0.12, lambda t: "%" in t),
    ("△", "2%", 0.01, 0.04, lambda t: "△" in t),
    ("a quotation", "a quarter", 0.20, 0.33, lambda t: bool(QUOTE.search(t))),
]


@dataclass
class Report:
    """Lines of Markdown and the checks that failed."""

    failures: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        print(f"\n### {text}\n")

    def table(self, *columns: str) -> None:
        print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")

    def row(self, *cells: object) -> None:
        print("| " + " | ".join(str(cell) for cell in cells) + " |")

    def require(self, name: str, value: float, least: float = -np.inf, most: float = np.inf) -> str:
        """Remember a value outside its bounds as a failure; "ok" or "**missed**" for the table."""
        if least <= value <= most:
            return "ok"
        self.failures.append(f"{name} is {value:.3g}, must be between {least:g} and {most:g}")
        return "**missed**"


def main() -> int:
    codebook = Codebook.load("policy")
    files = [str(DATA / "corpus" / f"{split}.jsonl") for split in SPLITS]
    data = read_labelled(files, codebook)
    report = Report()
    counts(report, data.sentences)
    labels(report, data.sentences, codebook)
    profile(report, data.sentences)
    agreement(report, data.sentences, codebook)
    give_aways(report, data.sentences)
    single = read_labelled([str(DATA / "corpus" / "train_single.jsonl")], codebook)
    annotated_once(report, single.sentences, data.sentences, codebook)
    everything = read_labelled([str(DATA / "corpus")], codebook)
    leaks(report, [finding.message for finding in check(everything, codebook)])
    print("\nEvery check passed." if not report.failures else "\nChecks missed:")
    for failure in report.failures:
        print(f"- {failure}")
    return 1 if report.failures else 0


def counts(report: Report, sentences: list[LabelledSentence]) -> None:
    report.heading("Size")
    report.table("split", "documents", "sentences", "share of sentences")
    for split in SPLITS:
        chosen = [s for s in sentences if s.split == split]
        report.row(split, len(documents(chosen)), len(chosen), f"{len(chosen) / len(sentences):.1%}")
    report.row("all", len(documents(sentences)), len(sentences), "")
    report.require("documents", len(documents(sentences)), least=550)
    report.require("sentences", len(sentences), least=8000)
    lengths = [len(document) for document in documents(sentences).values()]
    report.require("shortest document, sentences", min(lengths), least=7)
    report.require("longest document, sentences", max(lengths), most=32)


def labels(report: Report, sentences: list[LabelledSentence], codebook: Codebook) -> None:
    for task, least in (("role", 250), ("themes", 300)):
        report.heading(f"Sentences of each label: {task}")
        report.table("label", *SPLITS, "all", f"target ≥ {least}")
        found = {
            split: Counter(label for s in sentences if s.split == split for label in given(s, task)) for split in SPLITS
        }
        for label in codebook.tasks[task].label_ids:
            total = sum(found[split][label] for split in SPLITS)
            report.row(
                f"`{label}`", *(found[split][label] for split in SPLITS), total, report.require(label, total, least)
            )


def profile(report: Report, sentences: list[LabelledSentence]) -> None:
    report.heading("Profile against measurements on real reporting")
    report.table("what", "real reporting", "corpus", "accepted range")
    lengths = [len(s.text) for s in sentences]
    for name, target, q, least, most in (
        ("length, 5th percentile", "about 35", 5, 28, 42),
        ("length, median", "80 to 90", 50, 78, 92),
        ("length, 90th percentile", "125", 90, 112, 138),
    ):
        value = float(np.percentile(lengths, q))
        verdict = report.require(name, value, least, most)
        report.row(name, f"{target} characters", f"{value:.0f}", f"{least} to {most}: {verdict}")

    def share(name: str, target: str, value: float, least: float, most: float) -> None:
        verdict = report.require(name, value, least, most)
        report.row(name, target, f"{value:.0%}", f"{least:.1%} to {most:.0%}: {verdict}")

    quoted = [s for s in sentences if QUOTE.search(s.text)]
    spoken = [s for s in sentences if given(s, "role") != [NARRATION]]
    number = Counter(min(3, len(given(s, "themes"))) for s in sentences)
    total = len(sentences)
    share("no speaker", "close to a half", 1 - len(spoken) / total, 0.40, 0.55)
    share("no theme", "about 7%", number[0] / total, 0.04, 0.13)
    share("one theme", "about 70%", number[1] / total, 0.55, 0.80)
    share("two themes", "20%", number[2] / total, 0.13, 0.32)
    share("three or more", "2%", number[3] / total, 0.005, 0.06)
    for name, target, least, most, test in TARGETS:
        share(name, target, sum(test(s.text) for s in sentences) / total, least, most)
    share(
        "of those with a speaker, quoted",
        "half",
        sum(bool(QUOTE.search(s.text)) for s in spoken) / len(spoken),
        0.35,
        0.62,
    )
    share(
        "of the quoted, split quotes",
        "over half",
        sum(bool(SPLIT_QUOTE.search(s.text)) for s in quoted) / len(quoted),
        0.40,
        0.80,
    )
    keeps = [given(a, "role") == given(b, "role") for a, b in pairwise(sentences) if a.document_id == b.document_id]
    share("keeps the previous sentence's role", "55%", float(np.mean(keeps)), 0.42, 0.65)


def agreement(report: Report, sentences: list[LabelledSentence], codebook: Codebook) -> None:
    report.heading("Agreement of the two annotations, before adjudication")
    passes = [
        read_labelled([str(DATA / "annotations" / f"{name}.jsonl")], codebook).sentences for name in ("first", "second")
    ]
    keys = [[(s.document_id, s.sentence_id) for s in annotation] for annotation in (sentences, *passes)]
    if not sorted(keys[0]) == sorted(keys[1]) == sorted(keys[2]):
        report.failures.append("the annotations are not of the corpus's sentences")
        return
    by_key = [dict(zip(ids, annotation, strict=True)) for ids, annotation in zip(keys[1:], passes, strict=True)]
    one, two = (label_vectors([found[key] for key in keys[0]], codebook) for found in by_key)
    first, second = one["role"].argmax(1), two["role"].argmax(1)
    report.table("label", "Cohen's kappa", "Krippendorff's alpha", "target")
    kappa = cohen_kappa_score(first, second)
    report.row(
        "**role**", f"{kappa:.3f}", f"{alpha(first, second):.3f}", f"≥ .85 {report.require('role kappa', kappa, 0.85)}"
    )
    for task in ("role", "themes"):
        kappas = []
        for index, label in enumerate(codebook.tasks[task].label_ids):
            x, y = one[task][:, index], two[task][:, index]
            kappas.append(cohen_kappa_score(x, y))
            report.row(f"`{label}`", f"{kappas[-1]:.3f}", f"{alpha(x, y):.3f}", "")
        if task == "themes":
            mean = float(np.mean(kappas))
            report.row("**themes, mean**", f"{mean:.3f}", "", f"≥ .75 {report.require('mean theme kappa', mean, 0.75)}")
    final = label_vectors(sentences, codebook)
    same = (one["themes"] == two["themes"]).all(1) & (first == second)
    print(f"\nBoth annotations give exactly the same labels to {same.mean():.1%} of the sentences. ", end="")
    for name, vectors in (("first", one), ("second", two)):
        kept = (vectors["themes"] == final["themes"]).all(1) & (vectors["role"] == final["role"]).all(1)
        print(f"The adjudicated labels equal the {name} annotation's in {kept.mean():.1%}. ", end="")
    may = sum(any(s.may.values()) for s in sentences)
    print(f"{may:,} sentences ({may / len(sentences):.1%}) have a defensible second reading.")


def alpha(x: np.ndarray, y: np.ndarray) -> float:
    return float(krippendorff.alpha(reliability_data=np.stack([x, y]).astype(float), level_of_measurement="nominal"))


def give_aways(report: Report, sentences: list[LabelledSentence]) -> None:
    report.heading("Give-aways: organisations")
    roles = np.array([given(s, "role")[0] for s in sentences])
    groups = np.array([s.document_id for s in sentences])
    mentions = [ORGANISATION.findall(s.text) for s in sentences]
    names = [" ".join(found) for found in mentions]
    report.table("predicting the role by (5-fold, by document)", "accuracy", "macro-F1")
    majority = np.full(len(roles), NARRATION)
    report.row(
        "majority",
        f"{accuracy_score(roles, majority):.3f}",
        f"{f1_score(roles, majority, average='macro', zero_division=0):.3f}",
    )
    model = make_pipeline(CountVectorizer(token_pattern=r"\S+", binary=True), LogisticRegression(max_iter=1000))
    found = cross_val_predict(model, names, roles, groups=groups, cv=GroupKFold(5))
    macro = f1_score(roles, found, average="macro", zero_division=0)
    report.row("organisations' names alone", f"{accuracy_score(roles, found):.3f}", f"{macro:.3f}")
    report.require("role macro-F1 from organisations' names", macro, most=0.40)
    uses: dict[str, Counter[str]] = defaultdict(Counter)
    for found_names, role in zip(mentions, roles, strict=True):
        for name in set(found_names):
            uses[name][role] += 1
    common = [use for use in uses.values() if use.total() >= 15]
    own = [max((count for role, count in use.items() if role != NARRATION), default=0) for use in common]
    speaker = float(np.mean([count / use.total() for count, use in zip(own, common, strict=True)]))
    actor = float(np.mean([use[NARRATION] / use.total() for use in common]))
    mention = 1 - speaker - actor
    print(
        f"\n{len(common)} organisations occur 15 times or more. On average {speaker:.0%} of the sentences with the name carry "
        f"the role most common with it, {actor:.0%} are narration, {mention:.0%} carry another speaker's words."
    )
    report.require("organisations: share in narration", actor, least=0.2)
    report.require("organisations: share as a mere mention", mention, least=0.1)

    report.heading("Give-aways: theme words")
    report.table("theme", "positives without its words", "word occurs, theme not given")
    cues = {theme: np.array([bool(re.search(words, s.text)) for s in sentences]) for theme, words in CUES.items()}
    themes = {theme: np.array([theme in given(s, "themes") for s in sentences]) for theme in CUES}
    for theme in CUES:
        without = float((themes[theme] & ~cues[theme]).sum() / max(1, themes[theme].sum()))
        passing = int((cues[theme] & ~themes[theme]).sum())
        report.require(f"{theme}: share of positives without its words", without, least=0.08)
        report.require(f"{theme}: sentences with its word in passing", passing, least=60)
        report.row(f"`{theme}`", f"{without:.0%}", passing)

    report.heading(
        "Confusable pairs: sentences with one theme and a word of the other (or both themes, where the question is whether to give both)"
    )
    report.table("pair", "sentences", "target ≥ 60")
    for a, b, may_be_both in PAIRS:
        decides = (themes[a] ^ themes[b]) & np.where(themes[a], cues[b], cues[a])
        if may_be_both:
            decides |= themes[a] & themes[b]
        total = int(decides.sum())
        report.row(f"`{a}` / `{b}`", total, report.require(f"pair {a} / {b}", total, least=60))


def annotated_once(
    report: Report, single: list[LabelledSentence], twice: list[LabelledSentence], codebook: Codebook
) -> None:
    report.heading("The training sentences that were annotated once")
    report.table("what", "annotated once", "annotated twice")
    report.row("documents", len(documents(single)), len(documents(twice)))
    report.row("sentences", len(single), len(twice))
    lengths = [[len(s.text) for s in sentences] for sentences in (single, twice)]
    report.row("length, median", *(f"{np.median(values):.0f}" for values in lengths))
    for task in ("role", "themes"):
        for label in codebook.tasks[task].label_ids:
            counts = [[label in given(s, task) for s in sentences] for sentences in (single, twice)]
            report.row(f"`{label}`", *(f"{np.mean(values):.1%}" for values in counts))
    again = read_labelled([str(DATA / "annotations" / "single.jsonl")], codebook).sentences
    by_key = {(s.document_id, s.sentence_id): s for s in single}
    one = label_vectors([by_key[s.document_id, s.sentence_id] for s in again], codebook)
    two = label_vectors(again, codebook)
    role_kappa = cohen_kappa_score(one["role"].argmax(1), two["role"].argmax(1))
    themes_kappa = float(
        np.mean([cohen_kappa_score(x, y) for x, y in zip(one["themes"].T, two["themes"].T, strict=True)])
    )
    print(
        f"\nOn {len(again)} of these sentences, annotated again without sight of the labels: Cohen's kappa of the role {role_kappa:.3f}, "
        f"mean over the themes {themes_kappa:.3f}."
    )
    report.require("role kappa, annotated once", role_kappa, 0.85)
    report.require("mean theme kappa, annotated once", themes_kappa, 0.75)
    outside = [s.document_id for s in single if s.split != "train"]
    report.require("documents annotated once and outside the training split", len(set(outside)), most=0)


def leaks(report: Report, findings: list[str]) -> None:
    report.heading("Leakage between splits")
    crossing = [finding for finding in findings if "in more than one split" in finding]
    near = [finding for finding in findings if "same sentence" in finding]
    torn = [finding for finding in findings if "must be in one split" in finding]
    print(
        f"{len(near)} pairs of sentences are equal or nearly so (Jaccard similarity of character 5-shingles ≥ .6); "
        f"{len(crossing)} of them cross splits. {len(torn)} documents are in more than one split."
    )
    report.require("near-duplicates across splits", len(crossing), most=0)
    others = [finding for finding in findings if finding not in near]
    report.require("other findings of `policy-tagger check`", len(others), most=0)


def documents(sentences: list[LabelledSentence]) -> dict[str, list[LabelledSentence]]:
    found: dict[str, list[LabelledSentence]] = defaultdict(list)
    for sentence in sentences:
        found[sentence.document_id].append(sentence)
    return found


def given(sentence: LabelledSentence, task: str) -> list[str]:
    return sentence.labels[task] or []


if __name__ == "__main__":
    sys.exit(main())
